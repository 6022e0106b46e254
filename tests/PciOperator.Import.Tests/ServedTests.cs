using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Import.Tests;

/// <summary>Hosts with the cards of the cases: claims for what was imported get what Nova would give.</summary>
public class ServedTests
{
    [Theory]
    [InlineData("nv2080vga:1,nv2080aud:1,nv2080usb:1,nv2080bus:1", "21:00.0 21:00.1 21:00.2 21:00.3")]
    [InlineData("nv2080vga:2,nv2080aud:2,nv2080usb:2,nv2080bus:2", "21:00.0 21:00.1 21:00.2 21:00.3 41:00.0 41:00.1 41:00.2 41:00.3")]
    [InlineData("nv2080vga:3", null)]
    public void Four_functions_of_a_card_are_served_together(string flavor, string? expected) =>
        Assert.Equal(expected, Served("nova-2080", "host", flavor, [.. Card2080("21"), .. Card2080("41")]));

    [Theory]
    [InlineData("host-1", "a1:1", "08:00.0")]
    [InlineData("host-1", "a1:2", "08:00.0 41:00.0")]
    [InlineData("host-1", "a1:3", null)]
    [InlineData("compute-1", "a1:2", "08:00.0 41:00.0")]
    public void Ports_by_id_and_by_address_are_served(string node, string flavor, string? expected) =>
        Assert.Equal(
            expected,
            Served(
                "nova-x520",
                node,
                flavor,
                [Function("08:00.0", "8086:154d", DeviceType.Pf), Function("41:00.0", "8086:154d", DeviceType.Pf)]
            )
        );

    [Theory]
    [InlineData("x520-pf:1", "08:00.0")]
    [InlineData("X520_VF:3", "08:10.0 08:10.1 08:10.3")]
    [InlineData("any-vf:3", "08:10.0 08:10.1 08:10.3")]
    [InlineData("any-vf:4", null)]
    [InlineData("x520-pf:1,any-vf:1", "08:00.0 08:10.3")]
    [InlineData("x520-pf:1,any-vf:2", null)]
    public void PFs_and_VFs_are_served_and_keep_each_other_out(string flavor, string? expected) =>
        Assert.Equal(
            expected,
            Served(
                "nova-pf-and-vf",
                "host",
                flavor,
                [
                    Function("08:00.0", "8086:10fb", DeviceType.Pf, net: "ens1f0"),
                    Function("08:10.0", "8086:10ed", DeviceType.Vf, "08:00.0"),
                    Function("08:10.1", "8086:10ed", DeviceType.Vf, "08:00.0"),
                    // By its address and the VFs' id: the VFs of this port alone, not the port.
                    Function("08:00.1", "8086:10fb", DeviceType.Pf, net: "ens1f1"),
                    Function("08:10.3", "8086:10ed", DeviceType.Vf, "08:00.1"),
                    // Of a port that no spec names.
                    Function("09:10.0", "8086:10ed", DeviceType.Vf, "09:00.0"),
                ]
            )
        );

    [Fact]
    public void Addresses_mean_the_devices_that_they_mean_in_Nova()
    {
        (List<DeviceRule> rules, _) = Read("nova-addresses", "host");
        // Without the last, which means every device.
        rules[^1] = rules[^1] with
        {
            Selectors = [rules[^1].Selectors[0]],
        };
        string[] all =
        [
            "0a:00.0",
            "0a:01.0",
            "0b:00.3",
            "a3:00.0",
            "a3:00.1",
            "02:01.2",
            "02:01.1",
            "02:03.2",
            "81:02.0",
            "84:02.0",
            "82:1f.0",
        ];
        List<PciFunction> host = [.. all.Select(a => Function(a, "8086:1521", DeviceType.Pci))];
        Assert.Equal(
            "0a:00.0 0b:00.3 a3:00.0 02:01.2 81:02.0",
            string.Join(' ', host.Where(f => DeviceMatcher.Match(host, rules).ContainsKey(f.Address)).Select(f => $"{f.Address}"[5..]))
        );
    }

    [Fact]
    public void A_resource_of_the_SRIOV_operator_is_its_policy_s_VFs_and_nobody_else_s()
    {
        (List<DeviceRule> rules, Dictionary<string, AliasDefinition> aliases) = Read("sriov", "host");
        List<PciFunction> host =
        [
            Function("65:00.0", "8086:158b", DeviceType.Pf),
            Function("65:02.0", "8086:154c", DeviceType.Vf, "65:00.0"),
            Function("66:00.0", "8086:158b", DeviceType.Pf),
            Function("66:02.0", "8086:154c", DeviceType.Vf, "66:00.0"),
        ];
        NodeInventory node = Node(host, rules);
        Assert.Equal("65:02.0", Try(node, [(aliases["storagevfs"], 1)], null));
        Assert.Null(Try(node, [(aliases["storagevfs"], 2)], null));
    }

    [Fact]
    public void What_was_open_in_Harvester_is_served_and_nothing_else()
    {
        (List<DeviceRule> rules, Dictionary<string, AliasDefinition> aliases) = Read("harvester", "node-2");
        List<PciFunction> host =
        [
            Function("08:00.0", "15b3:1015", DeviceType.Pf),
            Function("08:00.2", "15b3:1016", DeviceType.Vf, "08:00.0"),
            Function("08:00.3", "15b3:1016", DeviceType.Vf, "08:00.0"),
            Function("1f:00.0", "8086:0a54", DeviceType.Pci),
        ];
        NodeInventory node = Node(host, rules);
        Assert.Equal("08:00.2", Try(node, [(aliases["node-2-000008002"], 1)], null));
        Assert.Null(Try(node, [(aliases["node-2-000008002"], 2)], null));
        Assert.Equal(["08:00.0", "08:00.2"], node.Devices.Where(d => d.Tags is not null).Select(d => $"{d.Function.Address}"[5..]));
    }

    private static IEnumerable<PciFunction> Card2080(string bus) =>
        new[] { "1e04", "10f7", "1ad6", "1ad7" }.Select(
            (id, i) => Function($"{bus}:00.{i}", $"10de:{id}", DeviceType.Pci) with { IommuGroup = Convert.ToInt32(bus, 16) }
        );

    private static PciFunction Function(string address, string ids, DeviceType type, string? pf = null, string? net = null) =>
        new()
        {
            Address = PciAddress.Parse("0000:" + address),
            VendorId = PciId.Parse(ids.Split(':')[0]),
            ProductId = PciId.Parse(ids.Split(':')[1]),
            Type = type,
            ParentAddress = pf is null ? null : PciAddress.Parse("0000:" + pf),
            NetDevice = net,
            SriovTotalVfs = type == DeviceType.Pf ? 8 : 0,
            ClassCode = 0x020000,
        };

    private static string? Served(string name, string node, string flavor, IReadOnlyList<PciFunction> host)
    {
        (List<DeviceRule> rules, Dictionary<string, AliasDefinition> aliases) = Read(name, node);
        string json = $$$"""[{"name": "f", "properties": {"pci_passthrough:alias": "{{{flavor}}}"}}]""";
        var claim = (PassthroughClaim)FlavorImport.Read([new SourceFile("flavors.json", json)]).Objects.Single().Entity;
        Assert.Equal(Api.GuestNuma.None, claim.Spec.GuestNuma);
        return Try(Node(host, rules), [.. claim.Spec.Requests.Select(r => (aliases[r.Alias], r.Count))], claim.Spec.NumaPolicy);
    }

    // The rules that a node gets, and all aliases.
    private static (List<DeviceRule> Rules, Dictionary<string, AliasDefinition> Aliases) Read(string name, string node)
    {
        ImportResult result = GoldenCase.Of(name).Import();
        List<DeviceRule> rules =
        [
            .. result
                .Objects.Select(o => o.Entity)
                .OfType<PciDeviceSpec>()
                .Where(s => (s.Spec.NodeSelector?.GetValueOrDefault("kubernetes.io/hostname") ?? node) == node)
                .OrderByDescending(s => s.Spec.Priority)
                .ThenBy(s => s.Metadata.Name, StringComparer.Ordinal)
                .Select(s => s.Spec.ToDeviceRule(s.Metadata.Name)),
        ];
        return (rules, result.Objects.Select(o => o.Entity).OfType<PciAlias>().ToDictionary(a => a.Metadata.Name, a => a.ToDefinition()));
    }

    private static NodeInventory Node(IReadOnlyList<PciFunction> host, IReadOnlyList<DeviceRule> rules)
    {
        IReadOnlyDictionary<PciAddress, DeviceRule> matched = DeviceMatcher.Match(host, rules);
        return NodeInventory.Build(
            "host",
            [
                .. host.Select(
                    (f, i) =>
                        new NodeDevice
                        {
                            Function = f with { IommuGroup = f.IommuGroup ?? 1000 + i },
                            Tags = matched.GetValueOrDefault(f.Address)?.Tags,
                            Rule = matched.GetValueOrDefault(f.Address)?.Name,
                        }
                ),
            ]
        );
    }

    private static string? Try(NodeInventory node, IReadOnlyList<(AliasDefinition Alias, int Count)> requests, NumaPolicy? policy)
    {
        NodeVerdict verdict = Allocator.TryNode(
            node,
            new ClaimRequirements
            {
                ClaimUid = "uid",
                NumaPolicy = policy,
                GuestNuma = Core.GuestNuma.None,
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
            }
        );
        return verdict is NodeVerdict.Served served
            ? string.Join(' ', served.Allocation.Devices.Select(d => d.Address).Order().Select(a => $"{a}"[5..]))
            : null;
    }
}
