using System.Globalization;

namespace PciOperator.Sandbox.Hosts;

/// <summary>Simulated hosts with the hardware of a lab.</summary>
public static class LabHosts
{
    private const uint Ethernet = 0x020000;
    private const uint Nvme = 0x010802;
    private const uint HostBridge = 0x060000;
    private const uint RootPort = 0x060400;

    private const string PciIds = """
        # An excerpt of the PCI ID list, for the lab's devices.
        10de  NVIDIA Corporation
        	10f7  TU102 High Definition Audio Controller
        	1ad6  TU102 USB 3.1 Host Controller
        	1ad7  TU102 USB Type-C UCSI Controller
        	1e04  TU102 [GeForce RTX 2080 Ti]
        144d  Samsung Electronics Co Ltd
        	a808  NVMe SSD Controller SM981/PM981/PM983
        1a03  ASPEED Technology, Inc.
        	2000  ASPEED Graphics Family
        8086  Intel Corporation
        	0a54  NVMe Datacenter SSD [3DNAND]
        	10c9  82576 Gigabit Network Connection
        	10ca  82576 Virtual Function
        	10ed  82599 Ethernet Controller Virtual Function
        	1521  I350 Gigabit Network Connection
        	154c  Ethernet Virtual Function 700 Series
        	154d  Ethernet 10G 2P X520 Adapter
        	1572  Ethernet Controller X710 for 10GbE SFP+
        	2020  Sky Lake-E DMI3 Registers
        	2030  Sky Lake-E PCI Express Root Port A
        """;

    /// <summary>
    /// One lab host on two NUMA nodes: two 82576 (0000:21:00.0, 0000:81:00.0), an X520 (22:00.0), an X710 with four VFs
    /// (82:00.0), an NVMe (23:00.0), two four-function RTX 2080 (24:00, 83:00); and what must not be taken: the NIC with the
    /// default route (01:00.0), the NVMe with the root file system (02:00.0), the boot display (03:00.0).
    /// </summary>
    /// <param name="number">0, 1, …: the same hardware, with serial numbers of its own.</param>
    public static SimulatedHost Create(int number = 0) => Builder(number).Build();

    /// <summary>The labels of a lab host's Node: its rack.</summary>
    public static IReadOnlyDictionary<string, string> Labels(int number) =>
        new Dictionary<string, string> { ["topology.kubernetes.io/zone"] = $"rack-{(number % 3) + 1}" };

    /// <summary>A lab host whose X710 (82:00.0) is in one IOMMU group (77) with its four VFs, since no port above it has ACS.</summary>
    public static SimulatedHost CreateWithoutAcs(int number = 0) => Builder(number, 77).Build();

    /// <summary>What <see cref="Create"/> boots, to change before.</summary>
    /// <param name="number">See <see cref="Create"/>.</param>
    /// <param name="groupOfX710">The IOMMU group of the X710 and its VFs; null: each function is its own.</param>
    public static SimulatedHostBuilder Builder(int number = 0, int? groupOfX710 = null)
    {
        SimulatedHostBuilder builder = Base(number);
        Bus(builder, "20", 0);
        Bus(builder, "80", 1);
        Igb(builder, number, "21", "20:00.0", 0, "ens1");
        X520(builder, number, "22", "20:01.0", 0, "ens2");
        DataNvme(builder, "23", "20:02.0", 0, 1);
        Rtx2080(builder, "24", "20:03.0", 0, 1);
        Igb(builder, number, "81", "80:00.0", 1, "ens3");
        X710(builder, number, "82", "80:01.0", 1, "ens4", vfs: 4, groupOfX710);
        Rtx2080(builder, "83", "80:02.0", 1, 2);
        return builder;
    }

    /// <summary>A lab host with 256 functions more: four X710 with 63 VFs each, all with their interfaces.</summary>
    public static SimulatedHost CreateWith256Vfs()
    {
        SimulatedHostBuilder builder = Builder();
        for (int i = 0; i < 4; i++)
        {
            Bus(builder, $"{0xa0 + (8 * i):x2}", i / 2);
            X710(builder, 0, $"{0xa1 + (8 * i):x2}", $"{0xa0 + (8 * i):x2}:00.0", i / 2, $"big{i}", vfs: 63);
        }

        return builder.Build();
    }

    /// <summary>A lab host with 256 functions more: 64 cards of four functions, each card an IOMMU group.</summary>
    public static SimulatedHost CreateWith64Cards()
    {
        SimulatedHostBuilder builder = Builder();
        Bus(builder, "a0", 1);
        for (int i = 0; i < 64; i++)
            Rtx2080(builder, $"{0xa1 + i:x2}", $"a0:{i % 16:x2}.{i / 16}", 1, 10 + i);
        return builder.Build();
    }

    /// <summary>Any number of hosts, each with some of the lab's cards in slots of its own; the same for the same seed.</summary>
    public static IEnumerable<SimulatedHost> Many(int count, int seed)
    {
        for (int i = 0; i < count; i++)
            yield return Random(i, unchecked((seed * 397) ^ i));
    }

    private static SimulatedHost Random(int number, int seed)
    {
        var random = new Random(seed);
        SimulatedHostBuilder builder = Base(number);
        int gpus = 0,
            disks = 0;
        foreach (int numa in (int[])[0, 1])
        {
            string root = numa == 0 ? "20" : "80";
            Bus(builder, root, numa);
            int cards = random.Next(2, 7);
            for (int slot = 0; slot < cards; slot++)
            {
                string bus = (Convert.ToInt32(root, 16) + 1 + slot).ToString("x2", CultureInfo.InvariantCulture);
                string port = $"{root}:{slot:x2}.0";
                string name = $"ens{(numa * 8) + slot + 1}";
                switch (random.Next(5))
                {
                    case 0:
                        Igb(builder, number, bus, port, numa, name);
                        break;
                    case 1:
                        X520(builder, number, bus, port, numa, name);
                        break;
                    case 2:
                        X710(builder, number, bus, port, numa, name, random.Next(0, 9));
                        break;
                    case 3:
                        DataNvme(builder, bus, port, numa, ++disks);
                        break;
                    default:
                        Rtx2080(builder, bus, port, numa, ++gpus);
                        break;
                }
            }
        }

        return builder.Build();
    }

    /// <summary>Root complex, management NIC, boot disk and boot display.</summary>
    private static SimulatedHostBuilder Base(int number)
    {
        SimulatedHostBuilder builder = new SimulatedHostBuilder()
            .PciIds(PciIds)
            // A lab's devices may be given away although a guard refuses them: its host consents.
            .File($"{SimulatedHost.StateDirectory}/guard-overrides", "*\n")
            .NumaNode(0, "0-15", 0)
            .NumaNode(1, "16-31", 1);
        Bus(builder, "00", 0);
        Port(builder, "00:01.0", 0);
        Port(builder, "00:02.0", 0);
        Port(builder, "00:03.0", 0);
        return builder
            .Add(
                new SimulatedFunction
                {
                    Address = "0000:01:00.0",
                    Ids = "8086:1521",
                    Class = Ethernet,
                    Bridge = "0000:00:01.0",
                    Numa = 0,
                    HostDriver = "igb",
                    ResetMethods = "flr pm bus",
                    Serial = Serial(number, 0x01),
                    Sriov = new SimulatedSriov
                    {
                        Total = 7,
                        VfProduct = "1520",
                        VfDriver = "igbvf",
                        Stride = 4,
                    },
                    Interfaces =
                    [
                        new SimulatedInterface
                        {
                            Name = "eno1",
                            Up = true,
                            DefaultRoute = true,
                            Address6 = true,
                        },
                    ],
                }
            )
            .Add(
                new SimulatedFunction
                {
                    Address = "0000:02:00.0",
                    Ids = "144d:a808",
                    Class = Nvme,
                    Bridge = "0000:00:02.0",
                    Numa = 0,
                    HostDriver = "nvme",
                    Disks =
                    [
                        new SimulatedDisk { Name = "nvme0n1", Minor = 0 },
                        new SimulatedDisk
                        {
                            Name = "nvme0n1p1",
                            PartitionOf = "nvme0n1",
                            Minor = 1,
                            MountedAt = "/boot/efi",
                        },
                        new SimulatedDisk
                        {
                            Name = "nvme0n1p2",
                            PartitionOf = "nvme0n1",
                            Minor = 2,
                            MountedAt = "/",
                        },
                    ],
                    Nodes = [new SimulatedNode("nvme0", 238, 0)],
                }
            )
            .Add(
                new SimulatedFunction
                {
                    Address = "0000:03:00.0",
                    Ids = "1a03:2000",
                    Class = 0x030000,
                    Bridge = "0000:00:03.0",
                    Numa = 0,
                    HostDriver = "ast",
                    ResetMethods = "pm bus",
                    BootVga = true,
                    Nodes = [new SimulatedNode("dri/card0", 226, 0)],
                }
            );
    }

    private static void Bus(SimulatedHostBuilder builder, string bus, int numa) =>
        builder.Add(
            new SimulatedFunction
            {
                Address = $"0000:{bus}:1f.0",
                Ids = "8086:2020",
                Class = HostBridge,
                Numa = numa,
                ResetMethods = "",
            }
        );

    private static void Port(SimulatedHostBuilder builder, string address, int numa) =>
        builder.Add(
            new SimulatedFunction
            {
                Address = $"0000:{address}",
                Ids = "8086:2030",
                Class = RootPort,
                Numa = numa,
                HostDriver = "pcieport",
                ResetMethods = "pm",
            }
        );

    private static void Igb(SimulatedHostBuilder builder, int number, string bus, string port, int numa, string name)
    {
        Port(builder, port, numa);
        builder.Add(
            new SimulatedFunction
            {
                Address = $"0000:{bus}:00.0",
                Ids = "8086:10c9",
                SubsystemIds = "8086:a03c",
                Class = Ethernet,
                Bridge = $"0000:{port}",
                Numa = numa,
                HostDriver = "igb",
                ResetMethods = "flr pm bus",
                Serial = Serial(number, Convert.ToInt32(bus, 16)),
                Sriov = new SimulatedSriov
                {
                    Total = 7,
                    VfProduct = "10ca",
                    VfDriver = "igbvf",
                    Offset = 128,
                    Stride = 2,
                    CountedBytes = bus == "21" ? 3_000_000 : 0,
                },
                Interfaces = [new SimulatedInterface { Name = name }],
            }
        );
    }

    private static void X520(SimulatedHostBuilder builder, int number, string bus, string port, int numa, string name)
    {
        Port(builder, port, numa);
        builder.Add(
            new SimulatedFunction
            {
                Address = $"0000:{bus}:00.0",
                Ids = "8086:154d",
                SubsystemIds = "8086:7b11",
                Class = Ethernet,
                Bridge = $"0000:{port}",
                Numa = numa,
                HostDriver = "ixgbe",
                ResetMethods = "flr bus",
                Serial = Serial(number, Convert.ToInt32(bus, 16)),
                Sriov = new SimulatedSriov
                {
                    Total = 63,
                    VfProduct = "10ed",
                    VfDriver = "ixgbevf",
                    Offset = 128,
                    Stride = 2,
                },
                Interfaces = [new SimulatedInterface { Name = name }],
            }
        );
    }

    private static void X710(
        SimulatedHostBuilder builder,
        int number,
        string bus,
        string port,
        int numa,
        string name,
        int vfs,
        int? group = null
    )
    {
        Port(builder, port, numa);
        builder.Add(
            new SimulatedFunction
            {
                Address = $"0000:{bus}:00.0",
                Ids = "8086:1572",
                SubsystemIds = "8086:0007",
                Class = Ethernet,
                Bridge = $"0000:{port}",
                Numa = numa,
                Group = group,
                HostDriver = "i40e",
                ResetMethods = "flr bus",
                Serial = Serial(number, Convert.ToInt32(bus, 16)),
                Sriov = new SimulatedSriov
                {
                    Total = 64,
                    NumVfs = vfs,
                    VfProduct = "154c",
                    VfDriver = "iavf",
                    Offset = 16,
                    VfGroup = group,
                },
                Interfaces = [new SimulatedInterface { Name = name }],
            }
        );
    }

    private static void DataNvme(SimulatedHostBuilder builder, string bus, string port, int numa, int number)
    {
        Port(builder, port, numa);
        builder.Add(
            new SimulatedFunction
            {
                Address = $"0000:{bus}:00.0",
                Ids = "8086:0a54",
                SubsystemIds = "8086:4702",
                Class = Nvme,
                Bridge = $"0000:{port}",
                Numa = numa,
                HostDriver = "nvme",
                Slot = $"{10 + number}",
                Disks = [new SimulatedDisk { Name = $"nvme{number}n1", Minor = 16 * number }],
                Nodes = [new SimulatedNode($"nvme{number}", 238, number)],
            }
        );
    }

    /// <summary>A card of four functions in one IOMMU group.</summary>
    private static void Rtx2080(SimulatedHostBuilder builder, string bus, string port, int numa, int number)
    {
        Port(builder, port, numa);
        int group = 100 + number;
        (string Product, uint Class, string Driver, SimulatedNode[] Nodes)[] functions =
        [
            (
                "1e04",
                0x030000,
                "nouveau",
                [new SimulatedNode($"dri/card{number}", 226, number), new SimulatedNode($"dri/renderD{127 + number}", 226, 127 + number)]
            ),
            ("10f7", 0x040300, "snd_hda_intel", [new SimulatedNode($"snd/controlC{number}", 116, 32 * number)]),
            ("1ad6", 0x0c0330, "xhci_hcd", []),
            ("1ad7", 0x0c8000, "nvidia-gpu", []),
        ];
        for (int i = 0; i < functions.Length; i++)
        {
            builder.Add(
                new SimulatedFunction
                {
                    Address = $"0000:{bus}:00.{i}",
                    Ids = $"10de:{functions[i].Product}",
                    SubsystemIds = "1462:3711",
                    Class = functions[i].Class,
                    Bridge = $"0000:{port}",
                    Numa = numa,
                    Group = group,
                    HostDriver = functions[i].Driver,
                    ResetMethods = i == 0 ? "bus" : "",
                    Nodes = [.. functions[i].Nodes],
                }
            );
        }
    }

    private static string Serial(int number, int bus) => $"a0369fffff{number:x2}{bus:x2}{(number >> 8) & 0xff:x2}";
}
