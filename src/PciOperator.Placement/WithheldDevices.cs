using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Placement;

/// <summary>
/// Devices that a claim could have had but for what their nodes say of them (a guard refuses, used once, not clean): how many, by the word
/// that the node gives, after the count of nodes by reason. The node's own sentence is for its administrator, and stays on the PciNode.
/// Pure.
/// </summary>
internal static class WithheldDevices
{
    private const int MostNodes = 512;
    private const string KeptByHost = "the host keeps it";

    /// <summary>A sentence to follow the summary; empty when no device is kept back.</summary>
    /// <param name="nodes">The cluster.</param>
    /// <param name="filter">Why the claim may not be placed on a node at all; null: it may.</param>
    /// <param name="claim">The claim.</param>
    /// <param name="wordOf">The word by which a node withholds the device at an address; null: it has none.</param>
    public static string Of(
        IEnumerable<NodeInventory> nodes,
        Func<string, RefusalReason?> filter,
        ClaimToPlace claim,
        Func<string, PciAddress, string?> wordOf
    )
    {
        var aliases = claim.Requirements.Requests.Select(r => r.Alias).Distinct().ToList();
        ILookup<string, ClaimRefusal> refused = (claim.Claim.Status?.Refusals ?? []).ToLookup(r => r.NodeName);
        var counts = new SortedDictionary<string, int>(StringComparer.Ordinal);
        foreach (NodeInventory? node in nodes.Where(n => filter(n.Name) is null).Take(MostNodes))
        {
            foreach (NodeDevice device in node.Devices)
            {
                if (!Matches(device, aliases))
                    continue;
                PciAddress address = device.Function.Address;
                string? word =
                    KeptBackBy(node, device) is { } blocked ? Api.TenantWords.Reason(wordOf(node.Name, blocked), KeptByHost)
                    : claim.Requirements.Excluded.Contains(new DeviceExclusion(node.Name, address))
                        ? Api.TenantWords.Reason(
                            refused[node.Name].FirstOrDefault(r => r.Addresses.Contains(address.ToString()))?.Reason,
                            "Refused"
                        )
                    : null;
                if (word is not null)
                    counts[word] = counts.GetValueOrDefault(word) + 1;
            }
        }

        return counts.Count == 0
            ? ""
            : $" Not offered: {string.Join(", ", counts.Select(c => $"{c.Value} ({c.Key})"))}; the PciNodes say why.";
    }

    private static bool Matches(NodeDevice device, List<AliasDefinition> aliases) =>
        device is { Owner: null, Tags: { } tags } && aliases.Any(a => a.Matches(device.Function, tags));

    /// <summary>The device, or the one in its group, that its node keeps back; null: none, or a claim has it.</summary>
    private static PciAddress? KeptBackBy(NodeInventory node, NodeDevice device)
    {
        if (node.WhyNotOffered(device.Function.Address) is null)
            return null;
        NodeDevice? blocked = device.BlockedReason is not null
            ? device
            : node.GroupOf(device.Function.Address).FirstOrDefault(d => d is { Owner: null, BlockedReason: not null });
        return blocked?.Function.Address;
    }
}
