using PciOperator.Core;

namespace PciOperator.Controller;

/// <summary>
/// Devices that a claim could have had but for what their nodes say of them (a guard refuses, used once, not clean): named with the node's own
/// words, after the count of nodes by reason. Pure.
/// </summary>
internal static class Hindrances
{
    private const int MostNamed = 3;
    private const int MostNodes = 512;
    private const int LongestReason = 400;

    /// <summary>A sentence to follow the summary; empty when no device is kept back.</summary>
    /// <param name="nodes">The cluster.</param>
    /// <param name="filter">Why the claim may not be placed on a node at all; null: it may.</param>
    /// <param name="claim">The claim.</param>
    public static string Of(IEnumerable<NodeInventory> nodes, Func<string, RefusalReason?> filter, ClaimToPlace claim)
    {
        var aliases = claim.Requirements.Requests.Select(r => r.Alias).Distinct().ToList();
        var refused = (claim.Claim.Status?.Refusals ?? []).ToLookup(r => r.NodeName);
        var named = new List<string>();
        foreach (var node in nodes.Where(n => filter(n.Name) is null).Take(MostNodes))
        {
            var reason = node.Devices.Select(d => KeptBack(node, d, aliases)).FirstOrDefault(r => r is not null)
                ?? refused[node.Name].FirstOrDefault(r => claim.Requirements.Excluded.Any(e => e.Node == node.Name && r.Addresses.Contains(e.Address.ToString())))?.Message;
            if (reason is not null)
                named.Add($"Not offered on {node.Name}: {Short(reason).TrimEnd('.', ' ')}.");
            if (named.Count == MostNamed)
                break;
        }

        return named.Count == 0 ? "" : " " + string.Join(' ', named);
    }

    /// <summary>What keeps a free device, or its group, from a claim that an alias of would have matched; null: nothing, or a claim has it.</summary>
    private static string? KeptBack(NodeInventory node, NodeDevice device, List<AliasDefinition> aliases)
    {
        if (device.Owner is not null || device.Tags is not { } tags || node.WhyNotOffered(device.Function.Address) is null || !aliases.Any(a => a.Matches(device.Function, tags)))
            return null;
        var blocked = device.BlockedReason is not null ? device
            : device.Function.IommuGroup is { } group ? node.Devices.FirstOrDefault(d => d.Function.IommuGroup == group && d is { Owner: null, BlockedReason: not null })
            : null;
        if (blocked?.BlockedReason is not { } reason)
            return null;
        var address = blocked.Function.Address.ToString();
        return reason.Contains(address, StringComparison.Ordinal) ? reason : $"{address}: {reason}";
    }

    private static string Short(string text) => text.Length > LongestReason ? text[..LongestReason] + "…" : text;
}
