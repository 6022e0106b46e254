using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Import.Tests;

/// <summary>What is proposed for devices that no spec names.</summary>
public sealed class DiscoveryTests
{
    private const string Gpu = "NVIDIA Corporation TU102 [GeForce RTX 2080 Ti]";

    [Fact]
    public void A_card_is_asked_for_by_its_gpu_and_offered_with_all_of_its_functions()
    {
        ImportResult proposal = Propose(
            Node(
                "node-1",
                Device("0000:65:00.0", "10de:1e04", "030000", Gpu, group: 7),
                Device("0000:65:00.1", "10de:10f7", "040300", "NVIDIA Corporation TU102 High Definition Audio Controller", group: 7)
            ),
            Node("node-2", Device("0000:17:00.0", "10de:1e04", "030000", Gpu, group: 1))
        );
        PciDeviceSpec spec = Assert.Single(proposal.Objects.Select(o => o.Entity).OfType<PciDeviceSpec>());
        PciAlias alias = Assert.Single(proposal.Objects.Select(o => o.Entity).OfType<PciAlias>());
        Assert.Equal(("geforce-rtx-2080-ti", "geforce-rtx-2080-ti"), (spec.Metadata.Name, alias.Metadata.Name));
        Assert.Equal(["10de:1e04", "10de:10f7"], spec.Spec.Devices.Select(d => $"{d.VendorId}:{d.ProductId}"));
        Assert.Equal(new AliasDevice { VendorId = "10de", ProductId = "1e04" }, Assert.Single(alias.Spec.Devices));
        Assert.Contains("2 on node-1 0000:65:00.0, node-2 0000:17:00.0", proposal.ToYaml(), StringComparison.Ordinal);
    }

    [Fact]
    public void What_a_guard_refuses_is_said_and_not_proposed_unless_there_is_more_of_it()
    {
        const string nvme = "Intel Corporation NVMe SSD";
        PciNodeDevice boot = Device("0000:03:00.0", "8086:0a54", "010802", nvme) with
        {
            Reason = "0000:03:00.0 carries /dev/nvme0n1p2, mounted at /.",
        };
        ImportResult none = Propose(Node("node-1", boot));
        Assert.Empty(none.Objects);
        Assert.Contains("mounted at /", Assert.Single(none.Notes), StringComparison.Ordinal);

        ImportResult one = Propose(Node("node-1", boot, Device("0000:04:00.0", "8086:0a54", "010802", nvme)));
        Assert.Equal(2, one.Objects.Count);
        Assert.Contains("mounted at /", one.ToYaml(), StringComparison.Ordinal);
        Assert.Contains(": 1 on node-1 0000:04:00.0.", one.ToYaml(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_guard_that_refuses_one_function_refuses_the_card()
    {
        ImportResult proposal = Propose(
            Node(
                "node-1",
                Device("0000:65:00.0", "10de:1e04", "030000", Gpu, group: 7),
                Device("0000:65:00.2", "10de:1ad6", "0c0330", "USB", group: 7) with
                {
                    Reason = "0000:65:00.2 is the keyboard's.",
                }
            )
        );
        Assert.Empty(proposal.Objects);
        Assert.Contains("keyboard", Assert.Single(proposal.Notes), StringComparison.Ordinal);
    }

    [Fact]
    public void A_port_is_asked_for_whole_and_its_vfs_are_told_of()
    {
        ImportResult proposal = Propose(
            Node("node-1", Device("0000:21:00.0", "8086:10c9", "020000", null) with { Type = DeviceType.Pf, TotalVfs = 7 })
        );
        PciAlias alias = Assert.Single(proposal.Objects.Select(o => o.Entity).OfType<PciAlias>());
        Assert.Equal("pci-8086-10c9", alias.Metadata.Name);
        Assert.Equal(DeviceType.Pf, Assert.Single(alias.Spec.Devices).DeviceType);
        Assert.Contains("up to 7", proposal.ToYaml(), StringComparison.Ordinal);
    }

    [Fact]
    public void Names_that_are_there_are_not_used_and_aliases_that_are_there_are()
    {
        PciNode node = Node("node-1", Device("0000:65:00.0", "10de:1e04", "030000", Gpu));
        var known = new PciAlias
        {
            Metadata = new() { Name = "gpu" },
            Spec = new() { Devices = [new AliasDevice { VendorId = "0x10DE", ProductId = "1E04" }] },
        };
        ImportResult proposal = Discovery.Propose(
            new DiscoverySource
            {
                Nodes = [node],
                SpecNames = ["geforce-rtx-2080-ti"],
                Aliases = [known],
                OnlyNode = "node-1",
            }
        );
        PciDeviceSpec spec = Assert.IsType<PciDeviceSpec>(Assert.Single(proposal.Objects).Entity);
        Assert.Equal("geforce-rtx-2080-ti-2", spec.Metadata.Name);
        Assert.Equal("node-1", Assert.Single(spec.Spec.NodeSelector!).Value);
        Assert.Contains("PciAlias gpu asks for", Assert.Single(proposal.Notes), StringComparison.Ordinal);
    }

    [Fact]
    public void A_stranger_in_a_group_that_a_spec_names_in_part_is_proposed()
    {
        PciNode node = Node("node-1");
        node.Status!.Devices =
        [
            Device("0000:65:00.0", "10de:1e04", "030000", Gpu, group: 7) with
            {
                Rule = "gpus",
                State = DeviceState.Available,
            },
            Device("0000:65:00.1", "10de:10f7", "040300", "Audio", group: 7) with
            {
                State = DeviceState.Available,
            },
            Device("0000:64:00.0", "8086:1234", "060400", "Port", group: 7) with
            {
                Bridge = true,
            },
        ];
        ImportResult proposal = Propose(node);
        Assert.Equal("10f7", Assert.Single(proposal.Objects.Select(o => o.Entity).OfType<PciDeviceSpec>().Single().Spec.Devices).ProductId);
    }

    private static ImportResult Propose(params PciNode[] nodes) => Discovery.Propose(new DiscoverySource { Nodes = nodes });

    private static PciNode Node(string name, params PciNodeDevice[] unmatched) =>
        new()
        {
            Metadata = new() { Name = name },
            Status = new PciNodeStatus { Devices = [], Unmatched = unmatched },
        };

    private static PciNodeDevice Device(string address, string ids, string classCode, string? name, int? group = null) =>
        new()
        {
            Address = address,
            VendorId = ids[..4],
            ProductId = ids[5..],
            ClassCode = classCode,
            Name = name,
            IommuGroup = group,
        };
}
