namespace PciOperator.Core;

/// <summary>Why a node can't serve a claim.</summary>
/// <param name="Code">A short name for machines: see <see cref="RefusalCodes"/>; filters bring their own.</param>
/// <param name="Text">Reads on after a number of nodes: <c>have no device of alias a1</c>.</param>
public sealed record RefusalReason(string Code, string Text)
{
    private static readonly (string Many, string One)[] Verbs =
    [
        ("have ", "has "),
        ("are ", "is "),
        ("were ", "was "),
        ("fail ", "fails "),
        ("don't ", "doesn't "),
    ];

    /// <summary>The text after a number of nodes: <c>7 have no device of alias a1</c>, <c>1 has no device of alias a1</c>.</summary>
    public string Of(int nodes)
    {
        if (nodes == 1)
        {
            foreach ((string many, string one) in Verbs)
            {
                if (Text.StartsWith(many, StringComparison.Ordinal))
                    return $"1 {one}{Text.AsSpan(many.Length)}";
            }
        }

        return $"{nodes} {Text}";
    }
}

/// <summary>The allocator's own codes.</summary>
public static class RefusalCodes
{
    /// <summary>No device of the node, free or not, is what a request asks for.</summary>
    public const string NoDevice = "NoDevice";

    /// <summary>There are such devices, too few of them free (or offered at all).</summary>
    public const string TooFewFree = "TooFewFree";

    /// <summary>Enough are free, and too few of them where the NUMA policy wants them.</summary>
    public const string NumaPolicy = "NumaPolicy";

    /// <summary>Each request alone could be served, all together can't: they want the same devices, or a PF and its VFs.</summary>
    public const string Conflict = "Conflict";

    /// <summary>An IOMMU group with such devices is not offered, since no spec matches some member.</summary>
    public const string GroupBlocked = "GroupBlocked";

    /// <summary>Beyond what is decided exactly; see <see cref="Allocator"/>.</summary>
    public const string TooComplex = "TooComplex";

    /// <summary>The claim itself can't be meant (no requests, a count below 1, …).</summary>
    public const string InvalidClaim = "InvalidClaim";
}

/// <summary>A device given to a claim.</summary>
/// <param name="Address">Where it is.</param>
/// <param name="Request">The request that it serves; empty for a companion.</param>
/// <param name="Companion">Whether it only goes along because its IOMMU group does.</param>
public readonly record struct AllocatedDevice(PciAddress Address, string Request, bool Companion);

/// <summary>A node's devices for a claim.</summary>
public sealed record NodeAllocation
{
    /// <summary>The node.</summary>
    public required string Node { get; init; }

    /// <summary>All devices that the claim takes, companions included, by address.</summary>
    public required IReadOnlyList<AllocatedDevice> Devices { get; init; }

    /// <summary>The NUMA nodes of the devices that serve requests, ascending: where the guest's CPUs belong.</summary>
    public IReadOnlyList<int> NumaNodes { get; init; } = [];

    /// <summary>
    /// Whether every request of policy <c>preferred</c> got what it prefers; null when none has it or the guest has no NUMA.
    /// </summary>
    public bool? NumaPreferenceMet { get; init; }
}

/// <summary>What a node answers to a claim.</summary>
public abstract record NodeVerdict
{
    private NodeVerdict() { }

    /// <summary>It can, like this.</summary>
    /// <param name="Allocation">The devices.</param>
    public sealed record Served(NodeAllocation Allocation) : NodeVerdict;

    /// <summary>It can't: no assignment exists.</summary>
    /// <param name="Reason">The first reason that explains it.</param>
    public sealed record Refused(RefusalReason Reason) : NodeVerdict;

    /// <summary>The claim or the node is beyond what is decided exactly.</summary>
    /// <param name="Reason">Which limit.</param>
    public sealed record TooComplex(RefusalReason Reason) : NodeVerdict;
}

/// <summary>Where in the cluster a claim goes, or why nowhere.</summary>
public sealed record Decision
{
    /// <summary>The node and devices; null when no node can serve it.</summary>
    public NodeAllocation? Allocation { get; init; }

    /// <summary>The nodes by reason, most nodes first; empty when the claim is served.</summary>
    public IReadOnlyList<(RefusalReason Reason, int Nodes)> Refusals { get; init; } = [];

    /// <summary>
    /// One sentence: <c>0/12 nodes can serve it: 7 have no device of alias a1, 3 have too few free (1 of 2), 2 fail NUMA policy
    /// required.</c>
    /// </summary>
    public required string Summary { get; init; }
}
