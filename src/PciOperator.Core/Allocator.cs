namespace PciOperator.Core;

/// <summary>Decides which devices serve a claim. Exact: a node is refused only when no assignment exists.</summary>
public static partial class Allocator
{
    /// <summary>Whether and how one node serves a claim.</summary>
    public static NodeVerdict TryNode(NodeInventory node, ClaimRequirements claim)
    {
        ArgumentNullException.ThrowIfNull(node);
        ArgumentNullException.ThrowIfNull(claim);
        return new Search(node, claim).Run();
    }

    /// <summary>Chooses a node and its devices for a claim.</summary>
    /// <param name="cluster">All nodes.</param>
    /// <param name="claim">What is asked for.</param>
    /// <param name="nodeFilter">Null when a node passes; else why not.</param>
    /// <param name="options">How to choose among nodes.</param>
    public static Decision Decide(ClusterInventory cluster, ClaimRequirements claim, Func<string, RefusalReason?> nodeFilter, PlacementOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(nodeFilter);
        return Decide(cluster, claim, [new FunctionFilter(nodeFilter)], options);
    }

    /// <summary>Chooses a node and its devices for a claim.</summary>
    /// <param name="cluster">All nodes.</param>
    /// <param name="claim">What is asked for.</param>
    /// <param name="nodeFilters">Checks that a node must pass, in this order.</param>
    /// <param name="options">How to choose among nodes.</param>
    public static Decision Decide(ClusterInventory cluster, ClaimRequirements claim, IReadOnlyList<INodeFilter>? nodeFilters = null, PlacementOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        ArgumentNullException.ThrowIfNull(claim);
        options ??= PlacementOptions.Default;
        var refusals = new Dictionary<RefusalReason, int>();
        NodeAllocation? best = null;
        int bestFree = 0;
        foreach (NodeInventory node in cluster.Nodes)
        {
            RefusalReason? reason = nodeFilters?.Select(f => f.Check(node.Name)).FirstOrDefault(r => r is not null);
            if (reason is null)
            {
                NodeVerdict verdict = TryNode(node, claim);
                reason = (verdict as NodeVerdict.Refused)?.Reason ?? (verdict as NodeVerdict.TooComplex)?.Reason;
                if (verdict is NodeVerdict.Served served)
                {
                    int free = node.Devices.Count(d => node.WhyNotOffered(d.Function.Address) is null);
                    if (best is null || (options.Strategy == NodeStrategy.Pack ? free < bestFree : free > bestFree))
                        (best, bestFree) = (served.Allocation, free);
                }
            }
            if (reason is not null)
                refusals[reason] = refusals.GetValueOrDefault(reason) + 1;
        }
        if (best is not null)
            return new Decision { Allocation = best, Summary = $"Placed on node {best.Node}." };
        List<(RefusalReason Reason, int Nodes)> sorted = [.. refusals.Select(p => (p.Key, p.Value)).OrderByDescending(p => p.Value).ThenBy(p => p.Key.Text, StringComparer.Ordinal)];
        string list = sorted.Count == 0 ? "." : ": " + string.Join(", ", sorted.Select(p => $"{p.Nodes} {p.Reason.Text}")) + ".";
        return new Decision { Refusals = sorted, Summary = $"0/{cluster.Count} nodes can serve it{list}" };
    }

    private sealed class FunctionFilter(Func<string, RefusalReason?> check) : INodeFilter
    {
        public string Name => "node";

        public RefusalReason? Check(string node) => check(node);
    }
}
