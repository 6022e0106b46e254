using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Placement;

/// <summary>
/// Checks of a node that have nothing to do with its devices, in the order in which they are asked. Each text reads on after a number of
/// nodes.
/// </summary>
internal static class NodeFilters
{
    /// <summary>A claim and a node that it might be placed on.</summary>
    /// <param name="Claim">The claim.</param>
    /// <param name="Node">The Node; null: there is none.</param>
    /// <param name="PciNode">Its PciNode; null: there is none.</param>
    /// <param name="AgentReady">Whether its agent is ready.</param>
    /// <param name="OnlyNode">The node where others of the claim's group are; null: any.</param>
    /// <param name="Name">The node's name.</param>
    internal readonly record struct Pair(
        PassthroughClaim Claim,
        V1Node? Node,
        PciNode? PciNode,
        bool AgentReady,
        string? OnlyNode,
        string Name
    );

    /// <summary>One check: what it is of, and why a pair fails it.</summary>
    internal sealed record Check(string Subject, Func<Pair, RefusalReason?> WhyNot);

    /// <summary>The checks, in the order in which they are asked. The first asks whether there is a Node: the others take it for granted.</summary>
    internal static IReadOnlyList<Check> All { get; } =
    [
        new("exists", p => p.Node is null || p.Node.Metadata.DeletionTimestamp is not null ? new("NodeGone", "are going away") : null),
        new(
            "node name",
            p => p.Claim.Spec.NodeName is { Length: > 0 } wanted && wanted != p.Name ? new("OtherNode", $"are not node {wanted}") : null
        ),
        new(
            "coLocateWith",
            p =>
                p.OnlyNode is not null && p.OnlyNode != p.Name
                    ? new("CoLocation", $"are not node {p.OnlyNode}, where claims of coLocateWith are")
                    : null
        ),
        new(
            "node selector",
            p =>
                p.Claim.Spec.NodeSelector is { } labels && !Labels.Match(labels, p.Node!.Metadata.Labels)
                    ? new("NodeSelector", "don't match the node selector")
                    : null
        ),
        new("node is ready and not cordoned", p => Unusable(p.Node!)),
        new(
            "taints",
            p =>
                Intolerable(p.Node!, p.Claim.Spec.Tolerations) is { } taint
                    ? new("Taint", $"have the taint {taint} that the claim doesn't tolerate")
                    : null
        ),
        new("PciNode stays", p => p.PciNode?.Metadata.DeletionTimestamp is not null ? new("NodeGone", "are going away") : null),
        new(
            "room for one claim more",
            p => NodeShares.IsFull(p.PciNode?.Spec) ? new("NodeFull", "have as many claims as a PciNode can hold") : null
        ),
        new("settled", p => p.PciNode?.Spec.Settling == true ? new("Settling", "are being asked what they hold") : null),
        new("agent is ready", p => p.AgentReady ? null : new("AgentNotReady", "have no agent that is ready")),
        new(
            "inventory",
            p =>
                p.PciNode?.Status is null || !p.PciNode.Status.Conditions.IsTrue(Conditions.InventoryReady)
                    ? new("NoInventory", "have no inventory yet")
                    : null
        ),
    ];

    /// <summary>Why a claim may not be placed on a node; null: nothing against it.</summary>
    public static RefusalReason? WhyNot(
        PassthroughClaim claim,
        V1Node? node,
        PciNode? pciNode,
        bool agentReady,
        string? onlyNode,
        string name
    )
    {
        var pair = new Pair(claim, node, pciNode, agentReady, onlyNode, name);
        foreach (Check check in All)
        {
            if (check.WhyNot(pair) is { } reason)
                return reason;
        }

        return null;
    }

    /// <summary>What is against a node for every claim.</summary>
    public static RefusalReason? Unusable(V1Node node)
    {
        if (node.Status?.Conditions?.FirstOrDefault(c => c.Type == "Ready")?.Status != "True")
            return new("NotReady", "are not Ready");
        return node.Spec?.Unschedulable == true ? new("Cordoned", "are cordoned") : null;
    }

    /// <summary>The first taint that keeps a claim away, as <c>key=value:effect</c>; null when there is none.</summary>
    private static string? Intolerable(V1Node node, IReadOnlyList<ClaimToleration>? tolerations)
    {
        foreach (V1Taint? taint in node.Spec?.Taints ?? [])
        {
            // A cordon shows as this taint too, and was looked at before.
            if (taint.Effect is not ("NoSchedule" or "NoExecute") || taint.Key == "node.kubernetes.io/unschedulable")
                continue;
            if (!(tolerations ?? []).Any(t => Tolerates(t, taint)))
                return taint.Value is { Length: > 0 } value ? $"{taint.Key}={value}:{taint.Effect}" : $"{taint.Key}:{taint.Effect}";
        }

        return null;
    }

    /// <summary>Whether a toleration covers a taint (k8s.io/api core/v1 ToleratesTaint).</summary>
    internal static bool Tolerates(ClaimToleration toleration, V1Taint taint) =>
        (toleration.Effect is null || toleration.Effect.ToString() == taint.Effect)
        && (string.IsNullOrEmpty(toleration.Key) ? toleration.Operator == TolerationOperator.Exists : toleration.Key == taint.Key)
        && (toleration.Operator == TolerationOperator.Exists || (toleration.Value ?? "") == (taint.Value ?? ""));
}

/// <summary>Labels of nodes.</summary>
internal static class Labels
{
    /// <summary>Whether labels have every pair of a selector.</summary>
    public static bool Match(IReadOnlyDictionary<string, string> selector, IDictionary<string, string>? labels) =>
        selector.All(p => labels is not null && labels.TryGetValue(p.Key, out string? value) && value == p.Value);
}
