using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>What this host holds for one claim.</summary>
public sealed record Holding
{
    /// <summary>What was asked.</summary>
    public required AssignmentRequest Request { get; init; }

    /// <summary>How far it is.</summary>
    public required HoldingState State { get; init; }

    /// <summary>One word, see <see cref="HoldingReasons"/>; null when all is well.</summary>
    public string? Reason { get; init; }

    /// <summary>A sentence for the person who reads the claim; null when all is well.</summary>
    public string? Message { get; init; }

    /// <summary>The devices and how they stand, in the order of the request.</summary>
    public IReadOnlyList<HeldDevice> Devices { get; init; } = [];

    /// <summary>The claim's UID.</summary>
    public string ClaimUid => Request.ClaimUid;

    /// <summary>The same in everything that a reader sees.</summary>
    public bool Equals(Holding? other) =>
        other is not null
        && ClaimUid == other.ClaimUid
        && State == other.State
        && Reason == other.Reason
        && Message == other.Message
        && Devices.SequenceEqual(other.Devices);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(ClaimUid, State, Reason, Message, Devices.Count);
}

/// <summary>One device of a holding.</summary>
public sealed record HeldDevice
{
    /// <summary>The function's address.</summary>
    public required PciAddress Address { get; init; }

    /// <summary>The driver bound to it when last looked at; null when none.</summary>
    public string? Driver { get; init; }

    /// <summary>The driver that it goes back to; null when it had none.</summary>
    public string? OriginalDriver { get; init; }

    /// <summary>"/dev/vfio/13"; null while it isn't there.</summary>
    public string? DeviceNode { get; init; }

    /// <summary>The iommufd node, "/dev/vfio/devices/vfio0"; null when the kernel has none.</summary>
    public string? VfioDeviceNode { get; init; }
}

/// <summary>The words of <see cref="Holding.Reason"/> and <see cref="SriovOutcome.Reason"/>.</summary>
public static class HoldingReasons
{
    /// <summary>A guard refused: the host uses the device.</summary>
    public const string GuardRefused = "GuardRefused";

    /// <summary>Another device is at the address, or its group changed.</summary>
    public const string DriftDetected = "DriftDetected";

    /// <summary>No device is at the address.</summary>
    public const string DeviceGone = "DeviceGone";

    /// <summary>Another claim holds the device, its group, its PF or one of its VFs.</summary>
    public const string OwnedByOther = "OwnedByOther";

    /// <summary>The kernel didn't bind the device.</summary>
    public const string BindFailed = "BindFailed";

    /// <summary>No PciDeviceSpec of the node gives the device away: the agent's own check of what it is told to take.</summary>
    public const string NotAllowed = "NotAllowed";

    /// <summary>The device has no IOMMU group.</summary>
    public const string NoIommuGroup = "NoIommuGroup";

    /// <summary>The device is on a vfio driver that somebody else bound.</summary>
    public const string ForeignVfioBinding = "ForeignVfioBinding";

    /// <summary>A bridge in the group has a driver that keeps VFIO from using the group.</summary>
    public const string GroupNotViable = "GroupNotViable";

    /// <summary>vfio-pci isn't there and can't be loaded.</summary>
    public const string VfioUnavailable = "VfioUnavailable";

    /// <summary>The device is bound, and can't be opened through VFIO.</summary>
    public const string OpenFailed = "OpenFailed";

    /// <summary>managed: false, and the administrator hasn't bound the device.</summary>
    public const string NotBound = "NotBound";

    /// <summary>A process has the device open.</summary>
    public const string InUse = "InUse";

    /// <summary>The kernel holds a write that can't be cancelled.</summary>
    public const string WriteBlocked = "WriteBlocked";

    /// <summary>The device couldn't be put back as it was.</summary>
    public const string RestoreFailed = "RestoreFailed";

    /// <summary>The journal couldn't be written.</summary>
    public const string JournalFailed = "JournalFailed";

    /// <summary>The claim's journal entry can't be read.</summary>
    public const string JournalCorrupt = "JournalCorrupt";

    /// <summary>The claim holds other devices than the assignment names.</summary>
    public const string AssignmentChanged = "AssignmentChanged";

    /// <summary>The request itself is wrong.</summary>
    public const string InvalidRequest = "InvalidRequest";

    /// <summary>The host was rebooted and the devices wait to be bound again.</summary>
    public const string Rebooted = "Rebooted";

    /// <summary>The number of VFs is being changed and the kernel hasn't finished.</summary>
    public const string Busy = "Busy";

    /// <summary>Something of the host couldn't be read.</summary>
    public const string HostUnreadable = "HostUnreadable";

    /// <summary>The device must be reset before it is given away, and no reset worked; or it did not come back from one.</summary>
    public const string ResetFailed = "ResetFailed";

    /// <summary>Prepared, but not reset before, since no reset of it works (reset: bestEffort).</summary>
    public const string NotReset = "NotReset";

    /// <summary>The device is kept from claims: see <see cref="HostFunction.Withheld"/>.</summary>
    public const string Withheld = "Withheld";

    /// <summary>The kernel refused the number of VFs.</summary>
    public const string SriovFailed = "SriovFailed";
}
