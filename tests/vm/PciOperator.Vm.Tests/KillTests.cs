using PciOperator.Api;

namespace PciOperator.Vm.Tests;

/// <summary>
/// `kill -9` of the agent in the middle of its work: it is stopped before a certain write, killed there, and started again.
/// </summary>
public sealed class KillTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    private const string Probe = "/sys/bus/pci/drivers_probe";

    [ClusterFact]
    public async Task Killed_before_the_device_leaves_its_driver_the_agent_finishes_binding()
    {
        await StopWhileBindingAsync("/sys/bus/pci/drivers/igb/unbind");
        Assert.Equal("igb", await Machine.DriverOfAsync(Topology.Nic1));
        Assert.Equal("vfio-pci", await Machine.SysfsAsync(Topology.Nic1, "driver_override"));
        await KillAndStartAsync();
        ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("nic")).Status!.Devices!);
        await AssertBoundAsync(device.Address, device.IommuGroup);
        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
    }

    [ClusterFact]
    public async Task Killed_between_the_two_drivers_the_agent_finishes_binding()
    {
        await StopWhileBindingAsync(Probe);
        Assert.Equal("", await Machine.DriverOfAsync(Topology.Nic1));
        await KillAndStartAsync();
        ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("nic")).Status!.Devices!);
        await AssertBoundAsync(device.Address, device.IommuGroup);
        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
    }

    [ClusterFact]
    public async Task Killed_while_binding_a_group_whose_claim_is_deleted_meanwhile_the_agent_undoes_it()
    {
        await Cluster.OfferAsync("dual", new() { VendorId = "8086", ProductId = "10d3" }, DualNic);
        await CloseGateAsync(Probe);
        await Cluster.ClaimAsync("dual", "dual");
        await WaitAtGateAsync();
        await Cluster.KillAgentAsync();
        await Cluster.Client.DeleteAsync<Api.PassthroughClaim>("dual", "default");
        await OpenGateAsync();
        await Cluster.StartAgentAsync();
        await Cluster.ReleaseAsync("dual");
        await AssertGivenBackAsync(Topology.DualNic0, "e1000e");
        await AssertGivenBackAsync(Topology.DualNic1, "e1000e");
    }

    [ClusterFact]
    public async Task Killed_before_the_device_leaves_vfio_pci_the_agent_finishes_giving_it_back()
    {
        await StopWhileReleasingAsync("/sys/bus/pci/drivers/vfio-pci/unbind");
        Assert.Equal("vfio-pci", await Machine.DriverOfAsync(Topology.Nic1));
        await KillAndStartAsync();
        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
    }

    [ClusterFact]
    public async Task Killed_before_its_own_driver_has_the_device_the_agent_finishes_giving_it_back()
    {
        await StopWhileReleasingAsync(Probe);
        Assert.Equal("", await Machine.DriverOfAsync(Topology.Nic1));
        await KillAndStartAsync();
        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
    }

    [ClusterFact]
    public async Task An_agent_that_starts_again_touches_nothing_of_what_claims_hold()
    {
        ClaimDevice device = await ClaimNicAsync("nic");
        await Cluster.OfferAsync("vf", new() { Address = Topology.Nic0 }, NicVf, numVfs: 1);
        await Cluster.ClaimAsync("vf", "vf");
        ClaimDevice vf = Assert.Single((await Cluster.WaitUntilReadyAsync("vf")).Status!.Devices!);
        // What a reset would wipe out, and what a rebind would renumber.
        await Machine.OutputOfAsync($"setpci -s {device.Address} CAP_MSI+4.l=deadbee0");
        // Interfaces that went and came say so for a while.
        await Machine.WaitUntilAsync("now=$(cat /sys/kernel/uevent_seqnum); usleep 1500000; [ $(cat /sys/kernel/uevent_seqnum) = $now ]");
        string before = await TracesAsync();

        await Cluster.KillAgentAsync();
        await Cluster.StartAgentAsync();
        await Machine.WaitUntilAsync("[ $(grep -c 'bound$' /run/agent.log) -ge 4 ]"); // both claims, by both agents

        Assert.Equal(before, await TracesAsync());
        Assert.Contains("deadbee0", before);
        await Cluster.WaitUntilReadyAsync("nic");
        await Cluster.WaitUntilReadyAsync("vf");

        Task<string> TracesAsync() =>
            Machine.OutputOfAsync(
                $"""
                cat /sys/kernel/uevent_seqnum
                stat -c '%i %Z' /sys/bus/pci/drivers/vfio-pci/{device.Address} /sys/bus/pci/drivers/vfio-pci/{vf.Address} /dev/vfio/{device.IommuGroup} /dev/vfio/{vf.IommuGroup}
                setpci -s {device.Address} CAP_MSI+4.l
                """
            );
    }

    private async Task StopWhileBindingAsync(string path)
    {
        await Cluster.OfferAsync("nic", new() { Address = Topology.Nic1 }, Nic);
        await CloseGateAsync(path);
        await Cluster.ClaimAsync("nic", "nic");
        await WaitAtGateAsync();
        await AssertJournalAsync("Preparing");
    }

    private async Task StopWhileReleasingAsync(string path)
    {
        await ClaimNicAsync("nic");
        await CloseGateAsync(path);
        await Cluster.Client.DeleteAsync<Api.PassthroughClaim>("nic", "default");
        await WaitAtGateAsync();
        await AssertJournalAsync("Restoring");
    }

    private async Task AssertJournalAsync(string stage) =>
        Assert.Equal(
            $"\"stage\": \"{stage}\",",
            (await Machine.OutputOfAsync("grep -h '\"stage\"' /var/lib/pcioperator/journal/*.json")).Trim()
        );

    private async Task KillAndStartAsync()
    {
        await Cluster.KillAgentAsync();
        await OpenGateAsync();
        await Cluster.StartAgentAsync();
    }
}
