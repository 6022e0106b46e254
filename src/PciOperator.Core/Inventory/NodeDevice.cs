namespace PciOperator.Core;

/// <summary>A device of a node, with what is known of it beyond the hardware.</summary>
public sealed record NodeDevice
{
    /// <summary>The hardware.</summary>
    public required PciFunction Function { get; init; }

    /// <summary>What its device spec says; null: it is in a group with others, but no spec matched it.</summary>
    public DeviceTags? Tags { get; init; }

    /// <summary>The name of the spec that matched.</summary>
    public string? Rule { get; init; }

    /// <summary>The UID of the claim that has it; null when free.</summary>
    public string? Owner { get; init; }

    /// <summary>
    /// Why it is not offered (a guard's refusal, removed, quarantined, …), as a sentence; null when nothing is against it.
    /// </summary>
    public string? BlockedReason { get; init; }

    /// <summary>
    /// Of a VF: whether that keeps its PF from being given away too; not so when it says only that the VF itself is of no use to anybody.
    /// </summary>
    public bool BlocksPf { get; init; } = true;
}
