using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>A device is clean for its next owner.</summary>
public sealed class CleaningTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    // Of the 82576's MSI capability: the kernel does not save and restore it around a reset while MSI is off, so what is
    // written there stays until a reset.
    private const string Register = "CAP_MSI+4.l",
        Reset = "00000000",
        Left = "deadbee0";

    [ClusterFact]
    public async Task A_device_is_reset_before_its_owner_gets_it_and_after()
    {
        await WriteAsync();
        await ClaimNicAsync("nic");
        Assert.Equal(Reset, await ReadAsync());
        await WriteAsync();
        await Cluster.ReleaseAsync("nic");
        Assert.Equal(Reset, await ReadAsync());
        await AssertGivenBackAsync(Topology.Nic1, "igb");
        PciNodeDevice device = await Cluster.WaitForDeviceAsync(Topology.Nic1, d => d.State == DeviceState.Available);
        Assert.Contains(device.ProvenReset, device.ResetMethods!);
    }

    [ClusterFact]
    public async Task A_device_whose_spec_says_reset_skip_is_left_as_it_is()
    {
        await WriteAsync();
        await ClaimNicAsync("nic", spec => spec.Reset = ResetMode.Skip);
        await Cluster.ReleaseAsync("nic");
        Assert.Equal(Left, await ReadAsync());
    }

    [ClusterFact]
    public async Task A_device_for_one_time_use_stays_withheld_until_an_administrator_frees_it()
    {
        await ClaimNicAsync("nic", spec => spec.OneTimeUse = true);
        await Cluster.ReleaseAsync("nic");
        await Cluster.WaitForUnavailableAsync(
            Topology.Nic1,
            $"kubectl annotate pcinode {Cluster.Node} pcioperator.io/free={Topology.Nic1}"
        );
        await AssertGivenBackAsync(Topology.Nic1, "igb");
        await Cluster.ClaimAsync("next", "nic");
        await RefusalOfAsync("next");

        // Durably: neither another agent nor another boot forgets it.
        await Cluster.CutPowerAsync();
        await Machine.WaitUntilAsync("grep -q . /run/agent.log");
        await Cluster.WaitForDeviceAsync(Topology.Nic1, d => d.State == DeviceState.Unavailable);

        await FreeAsync();
        await Cluster.WaitUntilReadyAsync("next");

        // Each time anew.
        await Cluster.ReleaseAsync("next");
        await Cluster.WaitForDeviceAsync(Topology.Nic1, d => d.State == DeviceState.Unavailable);
        await FreeAsync();
        await Cluster.WaitForDeviceAsync(Topology.Nic1, d => d.State == DeviceState.Available);
    }

    /// <summary>
    /// As an administrator does. The controller takes the annotation away when nothing is withheld by it any more: only then it can be made
    /// again.
    /// </summary>
    private async Task FreeAsync()
    {
        await Cluster.WaitForAsync<PciNode>(
            Cluster.Node,
            null,
            node => node.Metadata.Annotations?.ContainsKey("pcioperator.io/free") != true
        );
        Cluster.Kubectl($"kubectl annotate pcinode {Cluster.Node} pcioperator.io/free={Topology.Nic1}");
    }

    private Task<string> WriteAsync() => Machine.OutputOfAsync($"setpci -s {Topology.Nic1} {Register}={Left}");

    private Task<string> ReadAsync() => Machine.OutputOfAsync($"setpci -s {Topology.Nic1} {Register}");
}
