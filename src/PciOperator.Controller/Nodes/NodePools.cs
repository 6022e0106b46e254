using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Controller;

/// <summary>A node's pools in one sentence.</summary>
internal static class NodePools
{
    private const int Longest = 900;

    /// <summary>What the Node's condition says.</summary>
    public static (bool Ready, string Reason, string Message) Describe(PciNode node, bool agentReady)
    {
        if (!agentReady)
            return (false, "AgentNotReady", "the node's agent is not ready");
        if (node.Status is not { } status || !status.Conditions.IsTrue(Conditions.InventoryReady))
            return (false, "NoInventory", "the node's agent has published no inventory yet");
        if (status.Conditions.Find(Conditions.IommuEnabled) is { Status: not "True" } iommu)
            return (false, "IommuDisabled", Cut(iommu.Message));

        IEnumerable<string> pools = (status.Pools ?? [])
            .GroupBy(p => (p.VendorId, p.ProductId, p.Type, p.NumaNode))
            .Select(g =>
                $"{g.Key.VendorId}:{g.Key.ProductId} {g.Key.Type.ToNova()}{(g.Key.NumaNode is { } numa ? $" numa {numa}" : "")}: {g.Sum(p => (long)p.Available)} of {g.Sum(p => (long)p.Total)} free"
            );
        string text = string.Join("; ", pools);
        return text.Length == 0 ? (true, "NoDevices", "no device of this node may be given away") : (true, "Ready", Cut(text));
    }

    private static string Cut(string text) => text.Length > Longest ? text[..Longest] + "…" : text;
}
