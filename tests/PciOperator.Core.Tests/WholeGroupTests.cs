using static PciOperator.Core.Tests.TestHosts;

namespace PciOperator.Core.Tests;

/// <summary>
/// VFs that are in one IOMMU group with their PF end when it is taken: they are no members of that group, and are never given away.
/// </summary>
public class WholeGroupTests
{
    private const string Pf = "0000:82:00.0";
    private static readonly AliasDefinition PfAlias = Alias("pf", "8086:1572", DeviceType.Pf);
    private static readonly AliasDefinition VfAlias = Alias("vf", "8086:154c", DeviceType.Vf);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_PF_goes_alone_also_where_no_spec_matches_its_VFs(bool matched)
    {
        var node = NodeInventory.Build("n", [Device(Pf, "8086:1572", DeviceType.Pf, group: 77), .. Vfs(Pf, 77, matched: matched)]);
        Assert.Equal(Pf, Addresses(Served(node, Claim((PfAlias, 1)))));
        Assert.StartsWith(
            "its IOMMU group 77 goes as a whole, and its PF 0000:82:00.0 is in it",
            node.WhyNotOffered(PciAddress.Parse("0000:82:02.1")),
            StringComparison.Ordinal
        );
        Assert.IsType<NodeVerdict.Refused>(Allocator.TryNode(node, Claim((VfAlias, 1))));
        Assert.IsType<NodeVerdict.Refused>(Allocator.TryNode(node, Claim((PfAlias, 1), (VfAlias, 1))));
        Assert.Equal(1, node.Free);
    }

    [Theory]
    [InlineData("claim", null, true, false)]
    [InlineData(null, "it has an address", true, false)]
    [InlineData(null, "no driver takes it", false, true)]
    public void What_a_VF_of_it_is_used_for_keeps_the_PF_and_what_it_can_not_be_used_for_does_not(
        string? owner,
        string? blocked,
        bool blocksPf,
        bool served
    )
    {
        List<NodeDevice> vfs = [.. Vfs(Pf, 77)];
        vfs[1] = vfs[1] with { Owner = owner, BlockedReason = blocked, BlocksPf = blocksPf };
        NodeVerdict verdict = Allocator.TryNode(
            NodeInventory.Build("n", [Device(Pf, "8086:1572", DeviceType.Pf, group: 77), .. vfs]),
            Claim((PfAlias, 1))
        );
        Assert.Equal(served, verdict is NodeVerdict.Served);
    }

    [Fact]
    public void Two_PFs_in_one_group_go_together()
    {
        const string second = "0000:82:00.1";
        var node = NodeInventory.Build(
            "n",
            [
                Device(Pf, "8086:1572", DeviceType.Pf, group: 77),
                Device(second, "8086:1572", DeviceType.Pf, group: 77),
                .. Vfs(Pf, 77),
                .. Vfs(second, 77, slot: 6),
            ]
        );
        Assert.Equal("0000:82:00.0 (0000:82:00.1)", Addresses(Served(node, Claim((PfAlias, 1)))));
        Assert.Equal(2, node.Free);
    }

    [Fact]
    public void VFs_in_a_group_of_their_own_go_together_while_their_PF_stays()
    {
        var node = NodeInventory.Build("n", [Device(Pf, "8086:1572", DeviceType.Pf, group: 77), .. Vfs(Pf, 78)]);
        Assert.Equal("0000:82:02.0 (0000:82:02.1) (0000:82:02.2) (0000:82:02.3)", Addresses(Served(node, Claim((VfAlias, 1)))));
        Assert.IsType<NodeVerdict.Refused>(Allocator.TryNode(node, Claim((PfAlias, 1), (VfAlias, 1))));
        Assert.Equal(Pf, Addresses(Served(node, Claim((PfAlias, 1)))));
    }

    [Fact]
    public void The_group_of_such_a_card_and_another_device_goes_without_its_VFs()
    {
        var node = NodeInventory.Build(
            "n",
            [Device(Pf, "8086:1572", DeviceType.Pf, group: 77), .. Vfs(Pf, 77), Device("0000:83:00.0", "8086:0a54", group: 77)]
        );
        Assert.Equal("(0000:82:00.0) 0000:83:00.0", Addresses(Served(node, Claim((Alias("nvme", "8086:0a54"), 1)))));
    }

    private static IEnumerable<NodeDevice> Vfs(string pf, int group, int slot = 2, bool matched = true) =>
        Enumerable
            .Range(0, 4)
            .Select(i => Device($"0000:82:{slot:x2}.{i}", "8086:154c", DeviceType.Vf, pf, group: group, matched: matched));
}
