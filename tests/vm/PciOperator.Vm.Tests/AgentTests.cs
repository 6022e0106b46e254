using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>The main job on a real kernel: a claim takes a device from its driver, and its deletion gives it back.</summary>
public sealed class AgentTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    [ClusterFact]
    public async Task A_claim_binds_the_NIC_to_vfio_pci_and_its_deletion_gives_it_back_to_igb()
    {
        await Cluster.OfferAsync(
            "nic",
            new() { Address = Topology.Nic1 },
            new()
            {
                VendorId = "8086",
                ProductId = "10c9",
                DeviceType = DeviceType.Pf,
            }
        );
        Assert.Equal("igb", await Machine.DriverOfAsync(Topology.Nic1));
        await Cluster.ClaimAsync("nic", "nic");

        PassthroughClaim claim = await Cluster.WaitUntilReadyAsync("nic");
        Assert.Equal(Cluster.Node, claim.Status!.NodeName);
        ClaimDevice device = Assert.Single(claim.Status.Devices!);
        Assert.Equal(
            (Topology.Nic1, "8086", "10c9", 1, "vfio-pci"),
            (device.Address, device.VendorId, device.ProductId, device.NumaNode, device.Driver)
        );
        await AssertBoundAsync(Topology.Nic1, device.IommuGroup);

        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
        await Cluster.WithdrawAsync("nic");
    }

    [ClusterFact]
    public async Task A_spec_makes_VFs_and_a_claim_takes_one_of_them()
    {
        await Cluster.OfferAsync(
            "vf",
            new() { Address = Topology.Nic0 },
            new()
            {
                VendorId = "8086",
                ProductId = "10ca",
                DeviceType = DeviceType.Vf,
            },
            numVfs: 2
        );
        await Cluster.ClaimAsync("vf", "vf");

        PassthroughClaim claim = await Cluster.WaitUntilReadyAsync("vf");
        ClaimDevice device = Assert.Single(claim.Status!.Devices!);
        Assert.Equal(("8086", "10ca", 0), (device.VendorId, device.ProductId, device.NumaNode));
        Assert.Equal("2", await Machine.SysfsAsync(Topology.Nic0, "sriov_numvfs"));
        Assert.Equal(Topology.Nic0, await Machine.OutputOfAsync($"basename $(readlink /sys/bus/pci/devices/{device.Address}/physfn)"));
        Assert.Equal("igb", await Machine.DriverOfAsync(Topology.Nic0));
        await AssertBoundAsync(device.Address, device.IommuGroup);

        await Cluster.ReleaseAsync("vf");
        await AssertGivenBackAsync(device.Address, "igbvf");
        await Cluster.WithdrawAsync("vf");
    }

    [ClusterFact]
    public async Task A_claim_takes_both_functions_of_a_card_that_share_an_IOMMU_group()
    {
        await Cluster.OfferAsync("dual", new() { VendorId = "8086", ProductId = "10d3" }, new() { VendorId = "8086", ProductId = "10d3" });
        await Cluster.ClaimAsync("dual", "dual");

        PassthroughClaim claim = await Cluster.WaitUntilReadyAsync("dual");
        Assert.Equal([Topology.DualNic0, Topology.DualNic1], claim.Status!.Devices!.Select(device => device.Address).Order());
        ClaimDevice companion = Assert.Single(claim.Status.Devices!, device => device.Companion == true);
        Assert.True(string.IsNullOrEmpty(companion.Request));
        foreach (ClaimDevice device in claim.Status.Devices!)
            await AssertBoundAsync(device.Address, device.IommuGroup);

        await Cluster.ReleaseAsync("dual");
        await AssertGivenBackAsync(Topology.DualNic0, "e1000e");
        await AssertGivenBackAsync(Topology.DualNic1, "e1000e");
        await Cluster.WithdrawAsync("dual");
    }

    [ClusterFact]
    public async Task The_NIC_that_carries_the_route_is_refused_with_the_reason()
    {
        await Cluster.OfferAsync("route", new() { Address = Topology.HostNic }, new() { VendorId = "1af4", ProductId = "1041" });
        await Cluster.ClaimAsync("route", "route");

        string nic = await Machine.OutputOfAsync($"ls /sys/bus/pci/devices/{Topology.HostNic}/virtio*/net");
        await Cluster.WaitForUnavailableAsync(Topology.HostNic, nic);
        Assert.StartsWith("0/1 nodes can serve it", await RefusalOfAsync("route"));
        Assert.Equal("virtio-pci", await Machine.DriverOfAsync(Topology.HostNic));

        await Cluster.ReleaseAsync("route");
        await Cluster.WithdrawAsync("route");
    }
}
