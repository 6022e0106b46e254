using k8s.Models;
using PciOperator.Api;

namespace PciOperator.Controller;

/// <summary>What is to be said of claims' devices on a node instead of what its agent said last.</summary>
/// <param name="Ready">False: they can't be used. Null: nobody knows.</param>
/// <param name="Reason">One word.</param>
/// <param name="Message">A sentence.</param>
internal sealed record Doubt(bool? Ready, string Reason, string Message);

/// <summary>Whether an agent's last word still holds. Pure.</summary>
internal static class NodeStanding
{
    /// <summary>The reason of a claim whose node has booted since its agent's last word.</summary>
    public const string Rebooted = "NodeRebooted";

    /// <summary>Why an agent's last word may hold no more; null: nothing says so.</summary>
    public static Doubt? DoubtOf(V1Node? node, PciNode pciNode)
    {
        string name = pciNode.Metadata.Name;
        if (node is null)
            return null;
        if (IsUnreachable(node))
            return new(null, "NodeUnreachable", $"node {name} can't be reached: nobody knows whether the devices can be used");
        return HasBootedSince(node, pciNode)
            ? new(false, Rebooted, $"node {name} has booted since its agent's last word: the devices are bound again when the agent is up")
            : null;
    }

    /// <summary>
    /// Whether the control plane hears nothing of a node. The node controller then sets the conditions that it misses to Unknown, with this
    /// reason, and this taint.
    /// </summary>
    public static bool IsUnreachable(V1Node node) =>
        (node.Status?.Conditions ?? []).Any(c => c.Type == "Ready" && (c.Status is null or "Unknown" || c.Reason == "NodeStatusUnknown"))
        || (node.Spec?.Taints ?? []).Any(t => t.Key == "node.kubernetes.io/unreachable");

    /// <summary>Whether the kubelet tells of another boot than the agent did; the boot id is the kernel's, and the same for both.</summary>
    public static bool HasBootedSince(V1Node? node, PciNode pciNode) =>
        node?.Status?.NodeInfo?.BootID is { Length: > 0 } now
        && pciNode.Status?.BootId is { Length: > 0 } then
        && !string.Equals(now.Trim(), then.Trim(), StringComparison.OrdinalIgnoreCase);

    /// <summary>What of a Node decides what its claims say.</summary>
    public static (bool Unreachable, string? BootId, bool OutOfService) Of(V1Node node) =>
        (IsUnreachable(node), node.Status?.NodeInfo?.BootID, ClusterView.IsOutOfService(node));

    /// <summary>Whether a guest may run with devices that a claim got on a node: they were ready there, in the boot that goes on.</summary>
    public static bool MayRun(PassthroughClaim claim, V1Node? node, PciNode pciNode)
    {
        if (claim.Status is not { HandedOutIn: { } boot } status || status.NodeName != pciNode.Metadata.Name)
            return false;
        return boot.Length == 0 || (IsBoot(pciNode.Status?.BootId) && IsBoot(node?.Status?.NodeInfo?.BootID));

        bool IsBoot(string? other) => string.IsNullOrEmpty(other) || string.Equals(other.Trim(), boot, StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>Whether a PciNode belongs to a Node of this name that is not this one: the Node was deleted and registered again.</summary>
    public static bool IsOfAnother(PciNode pciNode, V1Node node) =>
        !string.IsNullOrEmpty(node.Metadata.Uid)
        && (pciNode.Metadata.OwnerReferences ?? []).FirstOrDefault(o => o.Kind == "Node" && o.Name == node.Metadata.Name)?.Uid
            != node.Metadata.Uid;
}
