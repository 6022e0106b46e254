using System.Text.Json;
using PciOperator.Core;

namespace PciOperator.NovaVectors;

/// <summary>
/// Pools in a form in which Nova's and ours can be compared: by key, the free devices. A null tag is no tag, a boolean tag is
/// compared by what it means, and what only Placement has (rp_uuid) is left out.
/// </summary>
internal static class PoolText
{
    private static readonly HashSet<string> OwnKeys = ["vendor_id", "product_id", "dev_type", "address", "numa_node"];

    public static SortedDictionary<string, SortedSet<string>> Of(JsonElement pools, bool tags = true)
    {
        var result = new SortedDictionary<string, SortedSet<string>>(StringComparer.Ordinal);
        foreach (JsonElement pool in pools.EnumerateArray())
        {
            if (pool.GetProperty("count").GetInt32() == 0)
                continue;
            var keys = new SortedDictionary<string, string>(StringComparer.Ordinal);
            foreach (JsonProperty p in pool.EnumerateObject())
            {
                if (
                    p.Name is "count" or "devices" or "rp_uuid"
                    || p.Value.ValueKind == JsonValueKind.Null
                    || (!tags && !OwnKeys.Contains(p.Name))
                )
                {
                    continue;
                }

                string value = p.Value.ValueKind == JsonValueKind.String ? p.Value.GetString()! : p.Value.GetRawText();
                keys[p.Name] = p.Name is "remote_managed" or "trusted"
                    ? IsTrue(value)
                        ? "true"
                        : "false"
                    : value;
            }

            Add(result, keys, pool.GetProperty("devices").EnumerateArray().Select(d => d.GetString()!));
        }

        return result;
    }

    public static SortedDictionary<string, SortedSet<string>> Of(IReadOnlyList<DevicePool> pools, bool tags = true)
    {
        var result = new SortedDictionary<string, SortedSet<string>>(StringComparer.Ordinal);
        foreach (DevicePool pool in pools.Where(p => p.Free.Count > 0))
        {
            var keys = new SortedDictionary<string, string>(StringComparer.Ordinal)
            {
                ["vendor_id"] = pool.VendorId.ToString(),
                ["product_id"] = pool.ProductId.ToString(),
                ["dev_type"] = pool.Type.ToNova(),
                ["address"] = pool.Address.ToString(),
            };
            if (pool.NumaNode is { } numa)
                keys["numa_node"] = numa.ToString();
            if (tags && pool.ParentNetDevice is { } parent)
                keys["parent_ifname"] = parent;
            if (tags)
            {
                foreach ((string key, string value) in pool.Tags)
                    keys[key] = value;
            }

            Add(result, keys, pool.Free.Select(a => a.ToString()));
        }

        return result;
    }

    /// <summary>Whether pools are the same but for tags (the name of a PF's interface is one of them here).</summary>
    public static bool Same(JsonElement theirs, IReadOnlyList<DevicePool> ours)
    {
        SortedDictionary<string, SortedSet<string>> a = Of(theirs, tags: false);
        SortedDictionary<string, SortedSet<string>> b = Of(ours, tags: false);
        return Show(a, b) == Show(b, a);
    }

    // Nova keeps the word as written and reads it so.
    private static bool IsTrue(string value) => value.Trim().ToLowerInvariant() is "1" or "t" or "true" or "on" or "y" or "yes";

    /// <summary>The pools that the others have not, or have otherwise.</summary>
    public static string Show(SortedDictionary<string, SortedSet<string>> pools, SortedDictionary<string, SortedSet<string>> others)
    {
        IEnumerable<string> different = pools
            .Where(p => !others.TryGetValue(p.Key, out SortedSet<string>? o) || !o.SetEquals(p.Value))
            .Select(p => $"{{{p.Key}}}: {string.Join(' ', p.Value)}");
        return string.Join("; ", different);
    }

    private static void Add(
        SortedDictionary<string, SortedSet<string>> pools,
        SortedDictionary<string, string> keys,
        IEnumerable<string> devices
    )
    {
        string key = string.Join(", ", keys.Select(p => $"{p.Key}={p.Value}"));
        if (!pools.TryGetValue(key, out SortedSet<string>? set))
            pools[key] = set = new SortedSet<string>(StringComparer.Ordinal);
        set.UnionWith(devices);
    }
}
