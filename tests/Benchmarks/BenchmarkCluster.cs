using System.Diagnostics.CodeAnalysis;
using PciOperator.Core;

namespace PciOperator.Benchmarks;

/// <summary>Clusters of nodes with 8 pools of 16 devices: what the allocator is measured on.</summary>
[SuppressMessage("Security", "CA5394", Justification = "Seeded on purpose.")]
internal static class BenchmarkCluster
{
    public const int Pools = 8;

    public const int Devices = 16;

    private static readonly PciId Vendor = PciId.Parse("8086");

    /// <summary>
    /// Nodes on two sockets of two NUMA nodes each. A node has 8 of the kinds of devices that there are, so with 8 kinds all have all, with
    /// 64 one in 8 has a kind; of each pool some devices are taken, so hardly two nodes are alike.
    /// </summary>
    public static ClusterInventory Of(int nodes, int kinds, int seed = 7)
    {
        var random = new Random(seed);
        return ClusterInventory.Of(
            Enumerable
                .Range(0, nodes)
                .Select(n => Node($"node-{n:d5}", Enumerable.Range(0, Pools).Select(p => ((n * Pools) + p) % kinds), random))
        );
    }

    public static NodeInventory Node(string name, IEnumerable<int> kinds, Random random)
    {
        var devices = new List<NodeDevice>();
        int pool = 0;
        foreach (int kind in kinds)
        {
            int taken = random.Next(0, 9);
            for (int i = 0; i < Devices; i++)
            {
                devices.Add(
                    new NodeDevice
                    {
                        Function = new PciFunction
                        {
                            Address = new PciAddress(0, 1 + (pool * 2) + (i / 8), i % 8, 0),
                            VendorId = Vendor,
                            ProductId = new PciId((ushort)kind),
                            NumaNode = pool % 4,
                            Socket = pool % 4 / 2,
                            IommuGroup = devices.Count,
                        },
                        Tags = DeviceTags.None,
                        Owner = i < taken ? "other" : null,
                    }
                );
            }

            pool++;
        }

        return NodeInventory.Build(name, devices);
    }

    /// <summary>A node with 8 PFs of 64 VFs each, a few VFs taken.</summary>
    public static NodeInventory VfNode(string name, Random random)
    {
        var devices = new List<NodeDevice>();
        for (int card = 0; card < 8; card++)
        {
            var pf = new PciAddress(0, 1 + (card * 4), 0, 0);
            devices.Add(Function(pf, DeviceType.Pf, 0x1572, null, card % 4, devices.Count));
            int taken = random.Next(0, 5);
            for (int i = 0; i < 64; i++)
            {
                NodeDevice vf = Function(
                    new PciAddress(0, 2 + (card * 4) + (i / 64), i / 8 % 32, i % 8),
                    DeviceType.Vf,
                    0x154c,
                    pf,
                    card % 4,
                    devices.Count
                );
                devices.Add(i < taken ? vf with { Owner = "other" } : vf);
            }
        }

        return NodeInventory.Build(name, devices);
    }

    public static AliasDefinition Alias(params int[] kinds) =>
        new()
        {
            Name = "a" + string.Join('-', kinds),
            AnyOf = [.. kinds.Select(k => new AliasSelector { VendorId = Vendor, ProductId = new PciId((ushort)k) })],
        };

    public static AliasDefinition Sriov(DeviceType type) =>
        new()
        {
            Name = type.ToNova(),
            AnyOf =
            [
                new AliasSelector
                {
                    VendorId = Vendor,
                    ProductId = new PciId((ushort)(type == DeviceType.Pf ? 0x1572 : 0x154c)),
                    Type = type,
                },
            ],
        };

    public static ClaimRequirements Claim(NumaPolicy? policy, params (AliasDefinition Alias, int Count)[] requests) =>
        new()
        {
            ClaimUid = "claim",
            NumaPolicy = policy,
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

    private static NodeDevice Function(PciAddress address, DeviceType type, int product, PciAddress? parent, int numa, int group) =>
        new()
        {
            Function = new PciFunction
            {
                Address = address,
                VendorId = Vendor,
                ProductId = new PciId((ushort)product),
                Type = type,
                ParentAddress = parent,
                NumaNode = numa,
                Socket = numa / 2,
                IommuGroup = group,
            },
            Tags = DeviceTags.None,
        };
}
