using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests.Faults;

/// <summary>
/// A host as small as its tests allow, since every access of an operation is a run of its own: the cards that are asked
/// for, each below a port of its own, and one more NIC for the claim that must not be held up.
/// </summary>
internal static class FaultHosts
{
    public const string Nvme = "0000:21:00.0";
    public const string Nic = "0000:22:00.0";
    public const string Pf = "0000:23:00.0";
    public const string FirstVf = "0000:23:02.0";
    public const string SecondVf = "0000:23:02.1";
    public const string Other = "0000:2f:00.0";

    /// <summary>What an administrator has given the second VF, beside a VLAN.</summary>
    public const string Mac = "52:54:00:12:34:56";

    public static readonly string[] Pair = ["0000:24:00.0", "0000:24:00.1"];

    private static readonly SimulatedFunction[] Cards =
    [
        new()
        {
            Address = Nvme,
            Ids = "8086:0a54",
            Class = 0x010802,
            HostDriver = "nvme",
            Slot = "11",
            Disks =
            [
                new SimulatedDisk { Name = "nvme1n1", Minor = 16 },
                new SimulatedDisk
                {
                    Name = "nvme1n1p1",
                    PartitionOf = "nvme1n1",
                    Minor = 17,
                },
            ],
            Nodes = [new SimulatedNode("nvme1", 238, 1)],
        },
        new()
        {
            Address = Nic,
            Ids = "8086:10c9",
            Class = 0x020000,
            HostDriver = "igb",
            ResetMethods = "flr pm bus",
            Serial = "a0369fffff002100",
            Interfaces = [new SimulatedInterface { Name = "ens1" }],
        },
        new()
        {
            Address = Pf,
            Ids = "8086:1572",
            Class = 0x020000,
            HostDriver = "i40e",
            Serial = "a0369fffff002300",
            Sriov = new SimulatedSriov
            {
                Total = 8,
                VfProduct = "154c",
                VfDriver = "iavf",
                Offset = 16,
            },
            Interfaces = [new SimulatedInterface { Name = "ens3" }],
        },
        new()
        {
            Address = Pair[0],
            Ids = "10de:1e04",
            Class = 0x030200,
            Group = 50,
            HostDriver = "nouveau",
            ResetMethods = "bus",
            Nodes = [new SimulatedNode("dri/card1", 226, 1)],
        },
        new()
        {
            Address = Pair[1],
            Ids = "10de:10f7",
            Class = 0x040300,
            Group = 50,
            HostDriver = "snd_hda_intel",
            ResetMethods = "",
        },
    ];

    /// <summary>A host with these cards.</summary>
    public static SimulatedHost With(params string[] addresses) => With(_ => { }, addresses);

    /// <summary>A host with these cards, changed.</summary>
    public static SimulatedHost With(Action<SimulatedFunction> change, params string[] addresses)
    {
        var builder = new SimulatedHostBuilder();
        foreach (SimulatedFunction card in Cards.Where(c => addresses.Contains(c.Address)))
            Add(builder, card, change);
        Add(
            builder,
            new SimulatedFunction
            {
                Address = Other,
                Ids = "8086:10d3",
                Class = 0x020000,
                HostDriver = "e1000e",
                Serial = "a0369fffff002f00",
                Interfaces = [new SimulatedInterface { Name = "ens9" }],
            },
            _ => { }
        );
        return builder.Build();
    }

    /// <summary>A PF with VFs, the second of which an administrator has given a MAC, a VLAN and trust.</summary>
    public static SimulatedHost WithSetVfs(int number)
    {
        SimulatedHost host = With(f => f.Sriov!.NumVfs = number, Pf);
        host.Change(SecondVf, f => (f.VfSettings, f.MacByPf) = (VfSettings.Default with { Mac = Mac, Vlan = 7, Trust = true }, true));
        return host;
    }

    private static void Add(SimulatedHostBuilder builder, SimulatedFunction card, Action<SimulatedFunction> change)
    {
        // Hosts outlive no run, and share nothing.
        SimulatedFunction own = System.Text.Json.JsonSerializer.Deserialize<SimulatedFunction>(
            System.Text.Json.JsonSerializer.SerializeToUtf8Bytes(card)
        )!;
        own.Bridge = $"0000:00:0{own.Address[6]}.0";
        change(own);
        if (own.Address.EndsWith(".0", StringComparison.Ordinal))
        {
            builder.Add(
                new SimulatedFunction
                {
                    Address = own.Bridge,
                    Ids = "8086:2030",
                    Class = 0x060400,
                    HostDriver = "pcieport",
                    ResetMethods = "",
                }
            );
        }

        builder.Add(own);
    }
}
