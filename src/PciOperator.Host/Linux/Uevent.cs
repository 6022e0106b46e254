namespace PciOperator.Host;

/// <summary>One message of the kernel about a device.</summary>
public sealed record Uevent
{
    /// <summary>add, remove, change, bind, unbind, move; empty for an overrun.</summary>
    public required string Action { get; init; }

    /// <summary>The device's path under /sys.</summary>
    public required string DevPath { get; init; }

    /// <summary>pci, net, vfio, block, …</summary>
    public required string Subsystem { get; init; }

    /// <summary>PCI_SLOT_NAME ("0000:21:00.0"); null when the message has none.</summary>
    public string? PciSlotName { get; init; }

    /// <summary>Messages were lost (ENOBUFS): everything must be looked at again.</summary>
    public bool Overrun { get; init; }

    /// <summary>Says that messages were lost.</summary>
    public static Uevent Lost { get; } =
        new()
        {
            Action = "",
            DevPath = "",
            Subsystem = "",
            Overrun = true,
        };
}

/// <summary>Where uevents come from.</summary>
public interface IUeventSource
{
    /// <summary>Listens from the moment of the call's first step until cancelled.</summary>
    IAsyncEnumerable<Uevent> ReadAsync(CancellationToken ct);
}
