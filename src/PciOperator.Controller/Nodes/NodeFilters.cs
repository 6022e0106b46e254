using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Controller;

/// <summary>
/// Checks of a node that have nothing to do with its devices, in the order in which they are asked. Each text reads on after a number of
/// nodes.
/// </summary>
internal static class NodeFilters
{
    /// <summary>Why a claim may not be placed on a node; null: nothing against it.</summary>
    public static RefusalReason? Check(
        PassthroughClaim claim,
        V1Node? node,
        PciNode? pciNode,
        bool agentReady,
        string? onlyNode,
        string name
    )
    {
        PassthroughClaimSpec spec = claim.Spec;
        if (node is null || node.Metadata.DeletionTimestamp is not null)
            return new("NodeGone", "are going away");
        if (spec.NodeName is { Length: > 0 } wanted && wanted != name)
            return new("OtherNode", $"are not node {wanted}");
        if (onlyNode is not null && onlyNode != name)
            return new("CoLocation", $"are not node {onlyNode}, where claims of coLocateWith are");
        if (spec.NodeSelector is { } labels && !Labels.Match(labels, node.Metadata.Labels))
            return new("NodeSelector", "don't match the node selector");
        if (Unusable(node) is { } unusable)
            return unusable;
        if (Intolerable(node, spec.Tolerations) is { } taint)
            return new("Taint", $"have the taint {taint} that the claim doesn't tolerate");
        if (pciNode?.Metadata.DeletionTimestamp is not null)
            return new("NodeGone", "are going away");
        if (NodeShares.IsFull(pciNode?.Spec))
            return new("NodeFull", "have as many claims as a PciNode can hold");
        if (pciNode?.Spec.Settling == true)
            return new("Settling", "are being asked what they hold");
        if (!agentReady)
            return new("AgentNotReady", "have no agent that is ready");
        return pciNode?.Status is null || !pciNode.Status.Conditions.IsTrue(Conditions.InventoryReady)
            ? new("NoInventory", "have no inventory yet")
            : null;
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
