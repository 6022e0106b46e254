using System.Text.Json;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.NovaVectors;

/// <summary>
/// Nova's own way through its pools, as far as it explains a refusal: each request in turn, pools in their order, within a pool
/// the last device; no way back. Pools and states are those that Nova had.
/// </summary>
internal sealed class NovaGreedy
{
    private readonly List<Pool> _pools;
    private readonly IReadOnlyList<Item> _items;
    private readonly int[]? _cells;
    private readonly IReadOnlyDictionary<int, int?> _sockets;

    private NovaGreedy(List<Pool> pools, IReadOnlyList<Item> items, int[]? cells, IReadOnlyDictionary<int, int?> sockets) =>
        (_pools, _items, _cells, _sockets) = (pools, items, cells, sockets);

    /// <summary>Its way for each place that the guest may be put on.</summary>
    /// <param name="pools">Nova's, in its order, each with its devices.</param>
    /// <param name="question">What is asked.</param>
    /// <param name="aliases">Nova's alias values.</param>
    /// <param name="sockets">The socket of each NUMA node.</param>
    public static IReadOnlyList<NovaGreedy> Of(
        JsonElement pools,
        Question question,
        IReadOnlyList<NovaAlias> aliases,
        IReadOnlyDictionary<int, int?> sockets
    )
    {
        List<Pool> all =
        [
            .. pools
                .EnumerateArray()
                .Select(p => new Pool(
                    p.EnumerateObject()
                        .Where(k => k.Name is not ("count" or "devices"))
                        .ToDictionary(k => k.Name, k => k.Value.ValueKind == JsonValueKind.Null ? null : k.Value.ToString()),
                    [.. p.GetProperty("devices").EnumerateArray().Select(d => d.GetString()!)]
                )),
        ];
        Item[] items =
        [
            .. question.Parsed.Select(
                (r, i) =>
                    new Item(
                        [.. aliases.Where(a => a.Name == r.Alias)],
                        checked((int)Math.Min(r.Count, int.MaxValue)),
                        question.Claim.PolicyOf(question.Claim.Requests[i]),
                        question.ProvidersOf(i)
                    )
            ),
        ];
        return [.. question.Places.Select(place => new NovaGreedy(all, items, place.Nodes.Count == 0 ? null : [.. place.Nodes], sockets))];
    }

    /// <summary>
    /// Whether Nova's filter and claim test let the requests through: it does not look at what a PF and its VFs mean for one another.
    /// </summary>
    public bool Supported() => Take(null) is not null;

    /// <summary>The devices that its claim would take, in order; null when it runs out.</summary>
    /// <param name="parentOf">The PF of each VF.</param>
    public IReadOnlyList<string>? Consumed(IReadOnlyDictionary<string, string> parentOf) => Take(parentOf);

    private List<string>? Take(IReadOnlyDictionary<string, string>? parentOf)
    {
        List<Pool> left = [.. _pools.Select(p => p with { Devices = [.. p.Devices] })];
        var taken = new List<string>();
        foreach (Item item in _items)
        {
            int need = item.Count;
            foreach (Pool pool in Usable(left, item))
            {
                int most = item.Providers is { } units ? units.Count(u => u == Provider(pool)) : need;
                for (int n = Math.Min(Math.Min(need, most), pool.Devices.Count); n > 0 && pool.Devices.Count > 0; n--, need--)
                {
                    string device = pool.Devices[^1];
                    pool.Devices.RemoveAt(pool.Devices.Count - 1);
                    taken.Add(device);
                    if (parentOf is null)
                        continue;
                    // One that is listed twice is removed once.
                    foreach (
                        string relative in left.SelectMany(p => p.Devices)
                            .Where(d => parentOf.GetValueOrDefault(d) == device || parentOf.GetValueOrDefault(device) == d)
                            .Distinct()
                            .ToList()
                    )
                    {
                        left.First(p => p.Devices.Contains(relative)).Devices.Remove(relative);
                    }
                }
            }

            if (need > 0)
                return null;
        }

        return taken;
    }

    // The filters in Nova's order; each that leaves too few ends it.
    private List<Pool> Usable(List<Pool> all, Item item)
    {
        List<Pool> found = [.. all.Where(p => p.Devices.Count > 0 && item.Specs.Any(s => Matches(s, p)))];
        if (Sum(found) < item.Count)
            return [];
        found = Near(found, item);
        bool pf = item.Specs.Any(s => s.DeviceType == DeviceType.Pf);
        found.RemoveAll(p =>
            (!pf && p.Keys["dev_type"] == "type-PF")
            || p.Keys["dev_type"] == "vdpa"
            || IsTrue(p.Keys.GetValueOrDefault("remote_managed"))
            || (item.Providers is { } units && (!units.Contains(Provider(p)) || units.Count(u => u == Provider(p)) > p.Devices.Count))
        );
        return Sum(found) < item.Count ? [] : found;
    }

    private List<Pool> Near(List<Pool> found, Item item)
    {
        if (_cells is null)
            return found;
        List<Pool> here = [.. found.Where(p => Node(p) is { } n && _cells.Contains(n))];
        if (item.Policy == NumaPolicy.Required || Sum(here) >= item.Count)
            return here;
        if (item.Policy == NumaPolicy.Socket)
        {
            return _sockets.Values.Any(s => s is null)
                ? []
                :
                [
                    .. found.Where(p =>
                        Node(p) is { } n
                        && _sockets.TryGetValue(n, out int? socket)
                        && _cells.Any(c => _sockets.TryGetValue(c, out int? own) && own == socket)
                    ),
                ];
        }

        List<Pool> unknownToo = [.. found.Where(p => Node(p) is not { } n || _cells.Contains(n))];
        return item.Policy == NumaPolicy.Legacy || Sum(unknownToo) >= item.Count
            ? unknownToo
            : [.. unknownToo, .. found.Except(unknownToo)];
    }

    private static bool Matches(NovaAlias s, Pool p) =>
        Is(p, "vendor_id", s.VendorId)
        && Is(p, "product_id", s.ProductId)
        && Is(p, "dev_type", s.DeviceType?.ToNova())
        && Is(p, "capability_type", s.CapabilityType)
        && Is(
            p,
            "live_migratable",
            s.LiveMigratable is { } live
                ? live
                    ? "true"
                    : "false"
                : null
        );

    private static bool Is(Pool p, string key, string? wanted) =>
        wanted is null || string.Equals(p.Keys.GetValueOrDefault(key), wanted, StringComparison.OrdinalIgnoreCase);

    private static bool IsTrue(string? value) => value?.Trim().ToLowerInvariant() is "1" or "t" or "true" or "on" or "y" or "yes";

    // A pool without one holds what Placement does not know.
    private static string Provider(Pool p) => p.Keys.GetValueOrDefault("rp_uuid") ?? "";

    private static int? Node(Pool p) => p.Keys.GetValueOrDefault("numa_node") is { } n ? int.Parse(n) : null;

    private static int Sum(List<Pool> found) => found.Sum(p => p.Devices.Count);

    private sealed record Pool(Dictionary<string, string?> Keys, List<string> Devices);

    private sealed record Item(NovaAlias[] Specs, int Count, NumaPolicy Policy, IReadOnlyList<string>? Providers);
}
