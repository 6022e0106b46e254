using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>What a claim hands over works: opened through VFIO with the kernel's own requests, as a virtual machine monitor does.</summary>
public sealed class VfioTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    [ClusterFact]
    public async Task A_VF_is_opened_through_VFIO_and_shows_its_config_space()
    {
        await Cluster.OfferAsync("vf", new() { Address = Topology.Nic0 }, NicVf, numVfs: 1);
        await Cluster.ClaimAsync("vf", "vf");
        Api.ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("vf")).Status!.Devices!);

        // A VF has no ids of its own in its config space: VFIO shows those that the kernel knows it by.
        string seen = await Machine.OutputOfAsync($"{GuestProgram} vfio {device.IommuGroup} {device.Address}");
        Assert.StartsWith($"{device.Address} {device.VendorId}:{device.ProductId} ", seen);
        Assert.EndsWith("\nDMA mapped", seen);
    }

    [ClusterFact]
    public async Task A_whole_group_of_two_functions_is_opened_through_VFIO()
    {
        await Cluster.OfferAsync("dual", DualNicSelector, DualNic);
        await Cluster.ClaimAsync("dual", "dual");
        Api.ClaimDevice[] devices = (await Cluster.WaitUntilReadyAsync("dual"))
            .Status!.Devices!.OrderBy(device => device.Address)
            .ToArray();
        Assert.Equal(2, devices.Length);

        string seen = await Machine.OutputOfAsync($"{GuestProgram} vfio {devices[0].IommuGroup} {devices[0].Address} {devices[1].Address}");
        string[] lines = seen.Split('\n');
        Assert.StartsWith($"{Topology.DualNic0} 8086:10d3 ", lines[0]);
        Assert.StartsWith($"{Topology.DualNic1} 8086:10d3 ", lines[1]);
        Assert.Equal("DMA mapped", lines[2]);
    }

    [ClusterFact]
    public async Task A_group_that_is_open_can_not_be_opened_by_another_process()
    {
        Api.ClaimDevice device = await ClaimNicAsync("nic");
        await HoldOpenAsync("hold", device.IommuGroup.ToString(), device.Address);
        CommandResult second = await Machine.RunAsync($"{GuestProgram} vfio {device.IommuGroup} {device.Address}");
        Assert.Equal(new CommandResult(1, $"open /dev/vfio/{device.IommuGroup}: EBUSY"), second);
    }

    [ClusterFact]
    public async Task Behind_a_conventional_bridge_the_group_is_named_as_not_viable_until_the_bridges_driver_lets_go_and_then_does_DMA()
    {
        // Debian's kernel has shpchp built in, which takes the bridge and keeps VFIO from using the group.
        string bridge = await Machine.OutputOfAsync($"basename $(readlink -f /sys/bus/pci/devices/{Topology.Edu}/..)");
        await Cluster.OfferAsync(
            "edu",
            new() { VendorId = "1234", ProductId = "11e8" },
            Function("1234", "11e8"),
            more: spec => spec.Companions = CompanionPolicy.Allow
        );
        bool hasDriver = await Machine.DriverOfAsync(bridge) != "";
        if (hasDriver)
        {
            await Cluster.WaitForUnavailableAsync(Topology.Edu, bridge);
            await Cluster.ClaimAsync("too-early", "edu");
            await RefusalOfAsync("too-early");
            Assert.Equal("", await Machine.DriverOfAsync(Topology.Edu));
            await Cluster.ReleaseAsync("too-early");
            await Machine.OutputOfAsync($"echo {bridge} > /sys/bus/pci/devices/{bridge}/driver/unbind");
        }

        await Cluster.ClaimAsync("edu", "edu");
        Api.PassthroughClaim claim = await Cluster.WaitUntilReadyAsync("edu");
        Assert.Equal([Topology.Edu, Topology.TestDevice], claim.Status!.Devices!.Select(device => device.Address).Order());
        int? group = claim.Status.Devices![0].IommuGroup;
        Assert.Equal("DMA copied", await Machine.OutputOfAsync($"{GuestProgram} edu-dma {group} {Topology.Edu} {Topology.TestDevice}"));

        await Cluster.ReleaseAsync("edu");
        await AssertGivenBackAsync(Topology.Edu, "");
        await AssertGivenBackAsync(Topology.TestDevice, "");
        if (hasDriver)
            await Machine.OutputOfAsync($"echo {bridge} > /sys/bus/pci/drivers_probe");
    }

    private static Api.DeviceSelectorSpec DualNicSelector => new() { VendorId = "8086", ProductId = "10d3" };
}
