namespace PciOperator.Core;

/// <summary>
/// Devices that Nova would count together: one pool for each <c>type-PCI</c> or <c>type-PF</c> device, and one for a PF's
/// like VFs. Free devices only, as in Nova.
/// </summary>
public sealed record DevicePool
{
    /// <summary>The vendor id.</summary>
    public required PciId VendorId { get; init; }

    /// <summary>The product id.</summary>
    public required PciId ProductId { get; init; }

    /// <summary>The NUMA node; null when unknown.</summary>
    public int? NumaNode { get; init; }

    /// <summary>The kind.</summary>
    public DeviceType Type { get; init; }

    /// <summary>The PF of VFs, else the device itself.</summary>
    public PciAddress Address { get; init; }

    /// <summary>For VFs: the network interface of their PF.</summary>
    public string? ParentNetDevice { get; init; }

    /// <summary>The spec's tags that are part of the key, by Nova's names; values as text.</summary>
    public required IReadOnlyDictionary<string, string> Tags { get; init; }

    /// <summary>All its devices, free or not.</summary>
    public int Total { get; init; }

    /// <summary>The free ones, by address.</summary>
    public required IReadOnlyList<PciAddress> Free { get; init; }

    private static readonly HashSet<string> OwnKeys =
    [
        "vendor_id",
        "product_id",
        "numa_node",
        "dev_type",
        "address",
        "parent_ifname",
        "count",
        "devices",
        "rp_uuid",
    ];

    internal static IReadOnlyList<DevicePool> Of(NodeInventory node)
    {
        var pools = new Dictionary<string, (DevicePool Pool, List<PciAddress> Free, int Total)>();
        var order = new List<string>();
        foreach (NodeDevice device in node.Devices)
        {
            PciFunction f = device.Function;
            if (device.Tags is not { } tags || f.IsBridge)
                continue;
            SortedDictionary<string, string> keys = KeysOf(f, tags);
            PciAddress address = f.IsVirtual ? f.ParentAddress ?? f.Address : f.Address;
            string key =
                $"{f.VendorId}|{f.ProductId}|{f.NumaNode}|{f.Type}|{address}|{f.ParentNetDevice}|{string.Join('|', keys.Select(p => $"{p.Key}={p.Value}"))}";
            if (!pools.TryGetValue(key, out (DevicePool Pool, List<PciAddress> Free, int Total) entry))
            {
                entry = (
                    new DevicePool
                    {
                        VendorId = f.VendorId,
                        ProductId = f.ProductId,
                        NumaNode = f.NumaNode,
                        Type = f.Type,
                        Address = address,
                        ParentNetDevice = f.ParentNetDevice,
                        Tags = keys,
                        Free = [],
                    },
                    [],
                    0
                );
                order.Add(key);
            }

            if (node.WhyNotOffered(f.Address) is null)
                entry.Free.Add(f.Address);
            pools[key] = entry with { Total = entry.Total + 1 };
        }

        return [.. order.Select(k => pools[k]).Select(e => e.Pool with { Free = e.Free, Total = e.Total })];
    }

    private static SortedDictionary<string, string> KeysOf(PciFunction f, DeviceTags tags)
    {
        var keys = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach ((string key, string value) in tags.Other)
        {
            if (!OwnKeys.Contains(key))
                keys[key] = value;
        }

        Flag("trusted", tags.TrustedStated);
        Flag("managed", tags.ManagedStated);
        Flag("live_migratable", tags.LiveMigratable);
        Flag("one_time_use", tags.OneTimeUseStated);
        Flag("remote_managed", tags.RemoteManagedStated ?? (f.Type == DeviceType.Pci ? null : false));
        if (tags.PhysicalNetwork is { } network)
            keys["physical_network"] = network;
        return keys;

        void Flag(string key, bool? value)
        {
            if (value is { } stated)
                keys[key] = stated ? "true" : "false";
        }
    }
}
