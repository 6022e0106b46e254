using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>Virtual functions of two real PFs, one on each NUMA node.</summary>
public sealed class SriovTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    // The shell in the guest prefers busybox' own ip, which knows nothing of VFs.
    private const string Ip = "/usr/bin/ip";

    private static readonly DeviceSelectorSpec BothNics = new() { VendorId = "8086", ProductId = "10c9" };

    [ClusterFact]
    public async Task VFs_of_both_PFs_are_made_and_their_number_is_changed_by_way_of_none()
    {
        await Cluster.OfferAsync("vfs", BothNics, NicVf, numVfs: 0);
        foreach (int count in new[] { 4, 2 })
        {
            await Cluster.AskForVfsAsync("vfs", count);
            foreach (string pf in new[] { Topology.Nic0, Topology.Nic1 })
            {
                await Cluster.WaitForDeviceAsync(pf, device => device.NumVfs == count);
                Assert.Equal(count.ToString(), await Machine.SysfsAsync(pf, "sriov_numvfs"));
                Assert.Equal("igb", await Machine.DriverOfAsync(pf));
            }
        }
    }

    [ClusterFact]
    public async Task Devices_are_shown_with_their_NUMA_nodes_and_a_claim_gets_those_of_the_node_that_it_requires()
    {
        await Cluster.OfferAsync(
            "vfs",
            new() { VendorId = "8086" },
            NicVf,
            numVfs: 2,
            more: spec => spec.Devices = [new() { VendorId = "8086", ProductId = "10c9" }, new() { VendorId = "8086", ProductId = "10ca" }]
        );
        PciNode node = await Cluster.WaitForAsync<PciNode>(
            Cluster.Node,
            null,
            n => n.Status?.Devices?.Count(device => device is { Type: DeviceType.Vf, State: DeviceState.Available }) == 4
        );
        var devices = node.Status!.Devices!.ToDictionary(device => device.Address);
        Assert.Equal((0, 1), (devices[Topology.Nic0].NumaNode, devices[Topology.Nic1].NumaNode));
        Assert.All(
            devices.Values.Where(device => device.Type == DeviceType.Vf),
            vf => Assert.Equal(devices[vf.ParentAddress!].NumaNode, vf.NumaNode)
        );

        await Cluster.ClaimAsync("on-one", "vfs", count: 2, numaPolicy: NumaPolicy.Required, numaNode: 1);
        PassthroughClaim claim = await Cluster.WaitUntilReadyAsync("on-one");
        Assert.Equal([1, 1], claim.Status!.Devices!.Select(device => device.NumaNode ?? -1));
        Assert.Equal([1], claim.Status.NumaNodes!);
        foreach (ClaimDevice device in claim.Status.Devices!)
            Assert.Equal("1", await Machine.SysfsAsync(device.Address, "numa_node"));

        await Cluster.ClaimAsync("one-more", "vfs", numaPolicy: NumaPolicy.Required, numaNode: 1);
        await RefusalOfAsync("one-more", "NUMA");
    }

    [ClusterFact]
    public async Task Another_number_of_VFs_waits_for_the_claim_that_holds_one_and_names_it()
    {
        await Cluster.OfferAsync("vfs", new() { Address = Topology.Nic0 }, NicVf, numVfs: 2);
        await Cluster.ClaimAsync("holder", "vfs");
        ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("holder")).Status!.Devices!);

        await Cluster.AskForVfsAsync("vfs", 4);
        PciNodeDevice pf = await Cluster.WaitForDeviceAsync(
            Topology.Nic0,
            d => d.Reason?.Contains("default/holder", StringComparison.Ordinal) == true
        );
        Assert.Equal(2, pf.NumVfs);
        Assert.Equal("2", await Machine.SysfsAsync(Topology.Nic0, "sriov_numvfs"));
        Assert.Equal("vfio-pci", await Machine.DriverOfAsync(device.Address));

        await Cluster.ReleaseAsync("holder");
        await Cluster.WaitForDeviceAsync(Topology.Nic0, d => d.NumVfs == 4);
        Assert.Equal("4", await Machine.SysfsAsync(Topology.Nic0, "sriov_numvfs"));
    }

    [ClusterFact]
    public async Task A_PF_whose_VF_is_claimed_is_not_given_away()
    {
        await Cluster.OfferAsync("vfs", new() { Address = Topology.Nic0 }, NicVf, numVfs: 2);
        await Cluster.Client.CreateAsync(
            new PciAlias
            {
                Metadata = new() { Name = "pf" },
                Spec = new() { Devices = [Nic] },
            }
        );
        await Cluster.ClaimAsync("holder", "vfs");
        await Cluster.WaitUntilReadyAsync("holder");

        await Cluster.ClaimAsync("pf", "pf");
        await RefusalOfAsync("pf");
        Assert.Equal("igb", await Machine.DriverOfAsync(Topology.Nic0));
        Assert.Equal("2", await Machine.SysfsAsync(Topology.Nic0, "sriov_numvfs"));

        // When the VF is free the PF goes, without its VFs.
        await Cluster.ReleaseAsync("holder");
        await Cluster.WaitUntilReadyAsync("pf");
        Assert.Equal("vfio-pci", await Machine.DriverOfAsync(Topology.Nic0));
    }

    [ClusterFact]
    public async Task A_PF_goes_without_its_free_VFs_and_has_as_many_again_at_its_release()
    {
        await Cluster.OfferAsync("pf", new() { Address = Topology.Nic0 }, Nic, numVfs: 3);
        await Cluster.WaitForDeviceAsync(Topology.Nic0, device => device.NumVfs == 3);
        await Cluster.ClaimAsync("pf", "pf");
        ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("pf")).Status!.Devices!);
        await AssertBoundAsync(Topology.Nic0, device.IommuGroup);
        await Machine.OutputOfAsync($"test ! -e /sys/bus/pci/devices/{Topology.Nic0FirstVf}");

        await Cluster.ReleaseAsync("pf");
        await AssertGivenBackAsync(Topology.Nic0, "igb");
        Assert.Equal("3", await Machine.SysfsAsync(Topology.Nic0, "sriov_numvfs"));
        Assert.Equal("igbvf", await Machine.DriverOfAsync(Topology.Nic0FirstVf));
    }

    [ClusterFact]
    public async Task What_was_set_for_a_VF_on_its_PF_while_it_was_claimed_is_as_before_after_its_release()
    {
        await Cluster.OfferAsync("vfs", new() { Address = Topology.Nic0 }, NicVf, numVfs: 1);
        await Machine.WaitUntilAsync($"[ -e /sys/bus/pci/devices/{Topology.Nic0FirstVf}/driver ]");
        string pf = await Machine.OutputOfAsync($"ls /sys/bus/pci/devices/{Topology.Nic0}/net");
        await Machine.OutputOfAsync($"{Ip} link set {pf} vf 0 mac 52:54:00:00:10:01");
        string before = await VfAsync();
        Assert.Contains("52:54:00:00:10:01", before);

        await Cluster.ClaimAsync("vf", "vfs");
        await Cluster.WaitUntilReadyAsync("vf");
        // As a virtual machine's management does for its guest.
        await Machine.OutputOfAsync($"{Ip} link set {pf} vf 0 mac 52:54:00:00:10:99 vlan 7 qos 3 spoofchk off trust on");
        Assert.Contains("vlan 7", await VfAsync());

        await Cluster.ReleaseAsync("vf");
        Assert.Equal(before, await VfAsync());

        Task<string> VfAsync() => Machine.OutputOfAsync($"{Ip} link show {pf} | grep 'vf 0'");
    }
}
