using static PciOperator.Core.Tests.TestHosts;

namespace PciOperator.Core.Tests;

/// <summary>One node, one claim: each rule by itself.</summary>
public class AllocatorTests
{
    private static readonly AliasDefinition Pf = Alias("pf", "8086:10c9", DeviceType.Pf);
    private static readonly AliasDefinition Vf = Alias("vf", "8086:10ca", DeviceType.Vf);
    private static readonly AliasDefinition Nic = Alias("a1");

    private static NodeInventory Node(params NodeDevice[] devices) => NodeInventory.Build("n1", devices);

    [Fact]
    public void An_alias_without_a_type_gets_no_PF_and_no_vDPA()
    {
        NodeInventory node = Node(
            Device("0000:01:00.0", type: DeviceType.Pf),
            Device("0000:02:00.0", type: DeviceType.Vdpa, pf: "0000:03:00.0")
        );
        Assert.Equal("have no device of alias a1 but of type-PF (give deviceType: type-PF)", Refused(node, Claim((Nic, 1))).Text);
    }

    [Fact]
    public void Any_of_aliases_are_matched_over_all_requests_at_once()
    {
        // Nova serves "only:1,any:1" and refuses "any:1,only:1" on this host.
        AliasDefinition only = Alias("only", "8086:0001");
        var any = new AliasDefinition { Name = "any", AnyOf = [Selector("8086:0001"), Selector("8086:0002")] };
        NodeInventory node = Node(Device("0000:01:00.0", "8086:0001"), Device("0000:02:00.0", "8086:0002"));
        foreach (ClaimRequirements claim in new[] { Claim((any, 1), (only, 1)), Claim((only, 1), (any, 1)) })
        {
            NodeAllocation allocation = Served(node, claim);
            string onlyRequest = claim.Requests.Single(r => r.Alias == only).Name;
            Assert.Equal("0000:01:00.0", allocation.Devices.Single(d => d.Request == onlyRequest).Address.ToString());
        }
    }

    [Fact]
    public void A_PF_and_a_VF_come_from_different_cards()
    {
        var one = NodeInventory.Build("n", [.. Card(1, 2)]);
        Assert.Equal(RefusalCodes.Conflict, Refused(one, Claim((Pf, 1), (Vf, 1))).Code);
        var two = NodeInventory.Build("n", [.. Card(1, 2), .. Card(2, 2)]);
        NodeAllocation allocation = Served(two, Claim((Pf, 1), (Vf, 2)));
        Assert.Equal(2, allocation.Devices.Select(d => d.Address.Bus).Distinct().Count());
        Assert.Equal(RefusalCodes.Conflict, Refused(two, Claim((Pf, 1), (Vf, 3))).Code);
    }

    [Fact]
    public void The_PF_with_the_fewest_VFs_that_are_needed_is_taken()
    {
        var node = NodeInventory.Build("n", [.. Card(1, 7), .. Card(2, 3)]);
        NodeAllocation allocation = Served(node, Claim((Pf, 1), (Vf, 7)));
        Assert.Equal(2, allocation.Devices.Single(d => d.Request == "r0").Address.Bus);
    }

    [Fact]
    public void Owners_decide_what_is_free_of_a_PF_and_its_VFs()
    {
        List<NodeDevice> devices = [.. Card(1, 2)];
        devices[1] = devices[1] with { Owner = "x" };
        var vfTaken = NodeInventory.Build("n", devices);
        Assert.Equal("have none free (1 wanted)", Refused(vfTaken, Claim((Pf, 1))).Text);
        Assert.Equal("0000:01:00.0's VF 0000:01:10.0 belongs to a claim", vfTaken.WhyNotOffered(PciAddress.Parse("0000:01:00.0")));
        Assert.Equal("0000:01:10.1", Addresses(Served(vfTaken, Claim((Vf, 1)))));

        devices = [.. Card(1, 2)];
        devices[0] = devices[0] with { Owner = "x" };
        Assert.Equal("have none free (1 wanted)", Refused(NodeInventory.Build("n", devices), Claim((Vf, 1))).Text);
    }

    [Fact]
    public void A_group_goes_whole_and_the_others_are_companions()
    {
        NodeInventory node = Node(
            Device("0000:01:00.0", "10de:1e04", group: 1),
            Device("0000:01:00.1", "10de:10f7", group: 1),
            Device("0000:01:00.2", "10de:1ad6", group: 1),
            Device("0000:01:00.3", "10de:1ad7", group: 1)
        );
        AliasDefinition vga = Alias("vga", "10de:1e04");
        AliasDefinition audio = Alias("audio", "10de:10f7");
        Assert.Equal("0000:01:00.0 (0000:01:00.1) (0000:01:00.2) (0000:01:00.3)", Addresses(Served(node, Claim((vga, 1)))));
        Assert.Equal("0000:01:00.0 0000:01:00.1 (0000:01:00.2) (0000:01:00.3)", Addresses(Served(node, Claim((vga, 1), (audio, 1)))));
    }

    [Fact]
    public void One_claim_packs_its_devices_into_as_few_groups_as_it_can()
    {
        NodeInventory node = Node(
            Device("0000:01:00.0", "10de:1e04", group: 1),
            Device("0000:01:00.1", "10de:10f7", group: 1),
            Device("0000:02:00.0", "10de:1e04", group: 2),
            Device("0000:03:00.0", "10de:1e04", group: 3),
            Device("0000:03:00.1", "10de:10f7", group: 3)
        );
        NodeAllocation allocation = Served(node, Claim((Alias("vga", "10de:1e04"), 1), (Alias("audio", "10de:10f7"), 1)));
        Assert.Equal("0000:01:00.0 0000:01:00.1", Addresses(allocation));
        Assert.Equal("0000:02:00.0", Addresses(Served(node, Claim((Alias("vga", "10de:1e04"), 1)))));
    }

    [Fact]
    public void An_endpoint_that_no_spec_matches_holds_up_its_group_and_its_address_is_not_told()
    {
        NodeDevice stranger = Device("0000:01:00.1", "8086:ffff", group: 1, matched: false);
        NodeInventory node = Node(Device("0000:01:00.0", group: 1), stranger);
        RefusalReason reason = Refused(node, Claim((Nic, 1)));
        Assert.Equal(RefusalCodes.GroupBlocked, reason.Code);
        Assert.DoesNotContain("0000:01:00.1", reason.Text, StringComparison.Ordinal); // a tenant reads it

        NodeInventory allowed = Node(
            Device("0000:01:00.0", group: 1, tags: new DeviceTags { Companions = CompanionPolicy.Allow }),
            stranger
        );
        Assert.Equal("0000:01:00.0 (0000:01:00.1)", Addresses(Served(allowed, Claim((Nic, 1)))));
    }

    [Fact]
    public void Bridges_neither_go_nor_block()
    {
        NodeDevice bridge = Device("0000:00:01.0", "8086:1901", group: 1, matched: false);
        bridge = bridge with { Function = bridge.Function with { IsBridge = true } };
        Assert.Equal("0000:01:00.0", Addresses(Served(Node(bridge, Device("0000:01:00.0", group: 1)), Claim((Nic, 1)))));
    }

    [Fact]
    public void A_member_that_is_blocked_or_owned_blocks_the_group()
    {
        foreach (
            NodeDevice member in new[]
            {
                Device("0000:01:00.1", group: 1, owner: "x"),
                Device("0000:01:00.1", group: 1, blocked: "it carries the default route"),
            }
        )
        {
            NodeInventory node = Node(Device("0000:01:00.0", group: 1), member);
            Assert.Equal(RefusalCodes.TooFewFree, Refused(node, Claim((Nic, 1))).Code);
            Assert.StartsWith(
                "its IOMMU group 1 goes as a whole, and 0000:01:00.1",
                node.WhyNotOffered(PciAddress.Parse("0000:01:00.0")),
                StringComparison.Ordinal
            );
        }
    }

    [Fact]
    public void A_device_in_no_group_is_not_offered()
    {
        NodeDevice d = Device("0000:01:00.0");
        NodeInventory node = Node(d with { Function = d.Function with { IommuGroup = null } });
        Assert.Equal("0000:01:00.0 is in no IOMMU group", node.WhyNotOffered(d.Function.Address));
        Assert.Equal(RefusalCodes.TooFewFree, Refused(node, Claim((Nic, 1))).Code);
    }

    [Fact]
    public void VFs_in_their_PFs_group_are_not_offered_but_the_PF_is()
    {
        NodeInventory node = Node(
            Device("0000:01:00.0", type: DeviceType.Pf, group: 1),
            Device("0000:01:10.0", "8086:10ca", DeviceType.Vf, "0000:01:00.0", group: 1)
        );
        Assert.Equal(RefusalCodes.TooFewFree, Refused(node, Claim((Vf, 1))).Code);
        Assert.Equal("0000:01:00.0", Addresses(Served(node, Claim((Pf, 1)))));
    }

    [Fact]
    public void A_device_refused_by_the_agent_is_kept_out_with_its_group_for_that_claim_alone()
    {
        NodeInventory node = Node(Device("0000:01:00.0", group: 1), Device("0000:01:00.1", "8086:0009", group: 1), Device("0000:02:00.0"));
        ClaimRequirements claim = Claim((Nic, 1)) with
        {
            Excluded = new HashSet<DeviceExclusion>
            {
                new("n1", PciAddress.Parse("0000:01:00.1")),
                new("n2", PciAddress.Parse("0000:02:00.0")),
            },
        };
        Assert.Equal("0000:02:00.0", Addresses(Served(node, claim)));
        Assert.Equal("have too few free (1 of 2)", Refused(node, claim with { Requests = [claim.Requests[0] with { Count = 2 }] }).Text);
    }

    [Fact]
    public void VFs_come_from_PFs_that_are_already_broken_up()
    {
        List<NodeDevice> devices = [.. Card(1, 4), .. Card(2, 4), .. Card(3, 4)];
        int broken = devices.FindIndex(d => d.Function.Address == PciAddress.Parse("0000:02:10.0"));
        devices[broken] = devices[broken] with { Owner = "x" };
        var node = NodeInventory.Build("n", devices);
        Assert.Equal("0000:02:10.1 0000:02:10.2 0000:02:10.3", Addresses(Served(node, Claim((Vf, 3)))));
        Assert.Equal(2, Served(node, Claim((Vf, 7))).Devices.Select(d => d.Address.Bus).Distinct().Count());
    }

    [Fact]
    public void Two_requests_of_one_alias_share_its_devices()
    {
        NodeInventory node = Node(Device("0000:01:00.0"), Device("0000:02:00.0"), Device("0000:03:00.0"));
        NodeAllocation allocation = Served(node, Claim((Nic, 2), (Nic, 1)));
        Assert.Equal(["r0", "r0", "r1"], allocation.Devices.Select(d => d.Request));
        Assert.Equal("have too few free (3 of 4)", Refused(node, Claim((Nic, 2), (Nic, 2))).Text);
    }

    [Fact]
    public void The_largest_claim_there_can_be_is_decided()
    {
        // 8 requests of 16 devices, each of an alias with 16 descriptions, on 1,024 devices of 64 cards.
        AliasDefinition[] aliases =
        [
            .. Enumerable
                .Range(0, 8)
                .Select(a => new AliasDefinition
                {
                    Name = $"a{a}",
                    AnyOf =
                    [
                        .. Enumerable
                            .Range(0, 16)
                            .Select(i => Selector($"8086:{(a * 8) + i:x4}", i % 4 == 0 ? DeviceType.Pf : DeviceType.Vf)),
                    ],
                }),
        ];
        List<NodeDevice> devices = [.. Enumerable.Range(0, 64).SelectMany(c => Card(c, 15, c % 2, $"8086:{c:x4}", $"8086:{c + 1:x4}"))];
        Assert.Equal(1024, devices.Count);
        NodeAllocation allocation = Served(NodeInventory.Build("n", devices), Claim([.. aliases.Select(a => (a, 16))]));
        Assert.Equal(128, allocation.Devices.Count);
    }

    [Fact]
    public void Requests_that_can_not_be_meant_are_refused()
    {
        Assert.Equal(RefusalCodes.InvalidClaim, Refused(Node(), Claim()).Code);
        Assert.Equal(RefusalCodes.InvalidClaim, Refused(Node(), Claim((Nic, 0))).Code);
    }
}
