namespace PciOperator.Core.Tests;

/// <summary>Devices, aliases and claims in a few words.</summary>
internal static class TestHosts
{
    private static int NextGroup = 100_000;

    public static NodeDevice Device(
        string address,
        string ids = "8086:10c9",
        DeviceType type = DeviceType.Pci,
        string? pf = null,
        int? numa = null,
        int? socket = null,
        int? group = null,
        DeviceTags? tags = null,
        bool matched = true,
        string? owner = null,
        string? blocked = null
    ) =>
        new()
        {
            Function = new PciFunction
            {
                Address = PciAddress.Parse(address),
                VendorId = PciId.Parse(ids.Split(':')[0]),
                ProductId = PciId.Parse(ids.Split(':')[1]),
                Type = type,
                ParentAddress = pf is null ? null : PciAddress.Parse(pf),
                NumaNode = numa,
                Socket = socket,
                IommuGroup = group ?? Interlocked.Increment(ref NextGroup),
            },
            Tags = matched ? tags ?? DeviceTags.None : null,
            Owner = owner,
            BlockedReason = blocked,
        };

    /// <summary>A PF with some VFs, each its own IOMMU group.</summary>
    public static IEnumerable<NodeDevice> Card(int bus, int vfs, int? numa = null, string pfIds = "8086:10c9", string vfIds = "8086:10ca")
    {
        string pf = $"0000:{bus:x2}:00.0";
        yield return Device(pf, pfIds, DeviceType.Pf, numa: numa);
        for (int i = 0; i < vfs; i++)
            yield return Device($"0000:{bus:x2}:{16 + (i / 8):x2}.{i % 8}", vfIds, DeviceType.Vf, pf, numa);
    }

    public static AliasDefinition Alias(
        string name,
        string ids = "8086:10c9",
        DeviceType? type = null,
        NumaPolicy policy = NumaPolicy.Legacy
    ) =>
        new()
        {
            Name = name,
            AnyOf = [Selector(ids, type)],
            NumaPolicy = policy,
        };

    public static AliasSelector Selector(string ids, DeviceType? type = null) =>
        new()
        {
            VendorId = PciId.Parse(ids.Split(':')[0]),
            ProductId = PciId.Parse(ids.Split(':')[1]),
            Type = type,
        };

    public static ClaimRequirements Claim(params (AliasDefinition Alias, int Count)[] requests) =>
        new()
        {
            ClaimUid = "uid",
            Requests =
            [
                .. requests.Select(
                    (r, i) =>
                        new DeviceRequest
                        {
                            Name = $"r{i}",
                            Alias = r.Alias,
                            Count = r.Count,
                        }
                ),
            ],
        };

    public static NodeAllocation Served(NodeInventory node, ClaimRequirements claim) =>
        Assert.IsType<NodeVerdict.Served>(Allocator.TryNode(node, claim)).Allocation;

    public static RefusalReason Refused(NodeInventory node, ClaimRequirements claim) =>
        Assert.IsType<NodeVerdict.Refused>(Allocator.TryNode(node, claim)).Reason;

    public static string Addresses(NodeAllocation allocation) =>
        string.Join(' ', allocation.Devices.Select(d => d.Companion ? $"({d.Address})" : d.Address.ToString()));
}
