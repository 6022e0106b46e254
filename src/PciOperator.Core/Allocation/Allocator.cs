namespace PciOperator.Core;

/// <summary>
/// Decides which devices serve a claim. Exact: a node is refused only when no assignment of its free devices meets every
/// request at once, with PFs against their VFs, whole IOMMU groups and NUMA policies.
/// </summary>
/// <remarks>
/// Bounds. With R requests that differ in alias or policy (at most 8 by the resources; 12 here), one look at a node with B
/// sets of alike devices costs B + R · 2^R steps for each NUMA node that the guest might be put on: at most 1,024 + 2,048. Only cards
/// whose PF and whose VFs are both wanted by one claim need a search; <see cref="CardSearch"/> says what it costs at worst.
/// The verdict <see cref="NodeVerdict.TooComplex"/> is left for more than 12 different requests, and for what is not
/// proved within <see cref="WorkBounds"/>.
/// </remarks>
public static class Allocator
{
    /// <summary>Whether and how one node serves a claim.</summary>
    public static NodeVerdict TryNode(NodeInventory node, ClaimRequirements claim)
    {
        ArgumentNullException.ThrowIfNull(node);
        ArgumentNullException.ThrowIfNull(claim);
        var plan = ClaimPlan.Of(claim);
        if (plan.Invalid is { } invalid)
            return invalid.Code == RefusalCodes.TooComplex ? new NodeVerdict.TooComplex(invalid) : new NodeVerdict.Refused(invalid);
        if (claim.Excluded.Count > 0)
            node = node.Without(claim);
        DeviceClass[] classes = node.Shape.Classes;
        Span<int> masks = Scratch.Mine.ClassMasks(classes.Length);
        for (int i = 0; i < classes.Length; i++)
            masks[i] = plan.MaskOf(classes[i]);
        var solver = new NodeSolver(node.Shape, plan, masks);
        Fit fit = solver.Solve();
        if (fit.Served)
            return new NodeVerdict.Served(DevicePicker.Pick(node, plan, solver, fit));
        RefusalReason reason = RefusalText.Explain(node, plan, masks, fit);
        return fit.GaveUp ? new NodeVerdict.TooComplex(reason) : new NodeVerdict.Refused(reason);
    }

    /// <summary>Chooses a node and its devices for a claim.</summary>
    /// <param name="cluster">All nodes.</param>
    /// <param name="claim">What is asked for.</param>
    /// <param name="nodeFilter">Null when a node passes; else why not.</param>
    /// <param name="options">How to choose among nodes.</param>
    public static Decision Decide(
        ClusterInventory cluster,
        ClaimRequirements claim,
        Func<string, RefusalReason?> nodeFilter,
        PlacementOptions? options = null
    )
    {
        ArgumentNullException.ThrowIfNull(nodeFilter);
        return Decide(cluster, claim, [new FunctionFilter(nodeFilter)], options);
    }

    /// <summary>Chooses a node and its devices for a claim.</summary>
    /// <param name="cluster">All nodes.</param>
    /// <param name="claim">What is asked for.</param>
    /// <param name="nodeFilters">Checks that a node must pass, in this order.</param>
    /// <param name="options">How to choose among nodes.</param>
    public static Decision Decide(
        ClusterInventory cluster,
        ClaimRequirements claim,
        IReadOnlyList<INodeFilter>? nodeFilters = null,
        PlacementOptions? options = null
    )
    {
        ArgumentNullException.ThrowIfNull(cluster);
        ArgumentNullException.ThrowIfNull(claim);
        var plan = ClaimPlan.Of(claim);
        if (plan.Invalid is { } invalid)
            return RefusalText.Summarize([(invalid, cluster.Count)], cluster.Count);
        var placement = new NodeChoice(cluster, plan, nodeFilters ?? [], options ?? PlacementOptions.Default);
        if (placement.Best() is not { } best)
            return RefusalText.Summarize(placement.Refusals(), cluster.Count);
        var served = (NodeVerdict.Served)TryNode(best, claim);
        return new Decision { Allocation = served.Allocation, Summary = $"Placed on node {best.Name}." };
    }

    /// <summary>The nodes that could serve a claim, best first, each with the devices that it would give.</summary>
    /// <param name="cluster">All nodes.</param>
    /// <param name="claim">What is asked for.</param>
    /// <param name="nodeFilter">Null when a node passes; else why not.</param>
    /// <param name="most">How many nodes are wanted at most; no more than 256 are compared.</param>
    /// <param name="refusal">When no node can serve it: the nodes by reason.</param>
    public static IReadOnlyList<NodeAllocation> Rank(
        ClusterInventory cluster,
        ClaimRequirements claim,
        Func<string, RefusalReason?> nodeFilter,
        int most,
        out Decision? refusal
    )
    {
        ArgumentNullException.ThrowIfNull(cluster);
        ArgumentNullException.ThrowIfNull(claim);
        ArgumentNullException.ThrowIfNull(nodeFilter);
        refusal = null;
        var plan = ClaimPlan.Of(claim);
        if (plan.Invalid is { } invalid)
        {
            refusal = RefusalText.Summarize([(invalid, cluster.Count)], cluster.Count);
            return [];
        }

        var placement = new NodeChoice(cluster, plan, [new FunctionFilter(nodeFilter)], PlacementOptions.Default);
        IReadOnlyList<NodeInventory> ranked = placement.Ranked(most);
        if (ranked.Count == 0)
            refusal = RefusalText.Summarize(placement.Refusals(), cluster.Count);
        return [.. ranked.Select(n => ((NodeVerdict.Served)TryNode(n, claim)).Allocation)];
    }

    private sealed class FunctionFilter(Func<string, RefusalReason?> check) : INodeFilter
    {
        public string Name => "node";

        public RefusalReason? Check(string node) => check(node);
    }
}
