using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>What became of a wish for a number of VFs.</summary>
public sealed record SriovOutcome
{
    /// <summary>The PF.</summary>
    public required PciAddress Address { get; init; }

    /// <summary>The PF has the wished number of VFs.</summary>
    public required bool Applied { get; init; }

    /// <summary>Something was written.</summary>
    public bool Changed { get; init; }

    /// <summary>VFs that the PF has now; null when it can't be read.</summary>
    public int? NumVfs { get; init; }

    /// <summary>One word, see <see cref="HoldingReasons"/>; null when applied.</summary>
    public string? Reason { get; init; }

    /// <summary>A sentence with what to do; null when applied.</summary>
    public string? Message { get; init; }

    /// <summary>Trying again soon can't help: the kernel or the card refused, and a person has to change something.</summary>
    public bool NeedsPerson => Reason is HoldingReasons.SriovFailed or HoldingReasons.DeviceGone or HoldingReasons.HostUnreadable;

    /// <summary>UIDs of the claims that hold the PF or its VFs and so keep it from being changed.</summary>
    public IReadOnlyList<string> BlockedBy { get; init; } = [];
}
