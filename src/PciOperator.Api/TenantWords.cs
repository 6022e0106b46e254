namespace PciOperator.Api;

/// <summary>
/// What a claim, and events about it, say of a node's trouble with it: a reason and what it means, in words of this project alone. A node's
/// own sentences name addresses, paths, processes and other claims; they stay on the PciNode and in the agent's log, since a claim is read
/// by its tenant.
/// </summary>
public static class TenantWords
{
    private const int LongestReason = 64;

    private static readonly Dictionary<string, string> Meanings = new(StringComparer.Ordinal)
    {
        ["Preparing"] = "the node is binding the devices",
        ["Releasing"] = "the node is giving the devices back to the host",
        ["Withheld"] = "the node withholds a device",
        ["GuardRefused"] = "the host itself uses a device, or would not survive without it",
        ["DriftDetected"] = "a device is not the one that was given to the claim",
        ["DeviceGone"] = "a device is gone from the bus",
        ["OwnedByOther"] = "a device is not free",
        ["BindFailed"] = "a device could not be bound to its driver",
        ["NoIommuGroup"] = "a device is in no IOMMU group",
        ["ForeignVfioBinding"] = "a device was bound for passthrough by somebody else",
        ["GroupNotViable"] = "a device's IOMMU group can't be given to a guest as it is",
        ["VfioUnavailable"] = "the node's kernel offers no VFIO",
        ["OpenFailed"] = "a device's group could not be opened",
        ["NotBound"] = "a device is not bound to its driver",
        ["TooSlow"] = "the node did not bind the devices in time",
        ["InUse"] = "a device is open on the node",
        ["WriteBlocked"] = "a write to the kernel has not come back",
        ["HostUnreadable"] = "the node could not find out whether a device is in use",
        ["NotAllowed"] = "no PciDeviceSpec of the node gives a device away",
        ["ResetFailed"] = "a device could not be reset",
        ["NotReset"] = "a device was not reset before, since no reset of it works",
        ["RestoreFailed"] = "a device could not be put back as it was",
        ["JournalFailed"] = "the node could not write its journal",
        ["JournalCorrupt"] = "the node can't read its journal's entry of the claim",
        ["AssignmentChanged"] = "the claim holds other devices than it was given",
        ["InvalidRequest"] = "the node can't tell what it is to bind",
        ["Rebooted"] = "the node was rebooted, and binds the devices again",
        ["Busy"] = "the node is changing the number of virtual functions",
        ["SriovFailed"] = "the node's kernel refused the number of virtual functions",
    };

    /// <summary>The reason as it may stand in a condition or an event: one word, else <paramref name="otherwise"/>.</summary>
    public static string Reason(string? reason, string otherwise) =>
        reason is { Length: > 0 and <= LongestReason } && char.IsAsciiLetter(reason[0]) && reason.All(char.IsAsciiLetterOrDigit)
            ? reason
            : otherwise;

    /// <summary>A reason as it may stand in a metric's label, where an agent must not bring in words of its own: one of ours, else <c>Other</c>.</summary>
    public static string Label(string? reason) => reason is not null && Meanings.ContainsKey(reason) ? reason : "Other";

    /// <summary>What a reason means to the tenant, and where the rest is told.</summary>
    /// <param name="reason">The word that the node's agent gives.</param>
    /// <param name="node">The node.</param>
    public static string Sentence(string? reason, string node) =>
        $"{Meanings.GetValueOrDefault(reason ?? "") ?? "the node's agent is at it"} ({Reason(reason, "Unknown")}); PciNode {node} says more";
}
