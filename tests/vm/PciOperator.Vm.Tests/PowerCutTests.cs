using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>Power loss: the journal is on the state disk, and the kernel has forgotten all that was done.</summary>
public sealed class PowerCutTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    private const string Probe = "/sys/bus/pci/drivers_probe";

    [ClusterFact]
    public async Task In_the_middle_of_binding_the_claim_is_bound_after_the_boot()
    {
        await Cluster.OfferAsync("nic", new() { Address = Topology.Nic1 }, Nic);
        await CloseGateAsync(Probe);
        await Cluster.ClaimAsync("nic", "nic");
        await WaitAtGateAsync();
        await Cluster.CutPowerAsync();

        ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("nic")).Status!.Devices!);
        await AssertBoundAsync(device.Address, device.IommuGroup);
        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
    }

    [ClusterFact]
    public async Task In_the_middle_of_giving_back_nothing_is_held_after_the_boot()
    {
        await ClaimNicAsync("nic");
        await CloseGateAsync(Probe);
        await Cluster.Client.DeleteAsync<PassthroughClaim>("nic", "default");
        await WaitAtGateAsync();
        await Cluster.CutPowerAsync();

        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
        Assert.Equal("", await Machine.OutputOfAsync("ls /var/lib/pcioperator/journal"));
    }

    [ClusterFact]
    public async Task Claims_that_were_ready_are_bound_again_after_the_boot_VFs_included()
    {
        await Cluster.OfferAsync("vf", new() { Address = Topology.Nic0 }, NicVf, numVfs: 2);
        await Cluster.ClaimAsync("vf", "vf");
        ClaimDevice before = Assert.Single((await Cluster.WaitUntilReadyAsync("vf")).Status!.Devices!);
        string? boot = (await Cluster.Client.GetAsync<PciNode>(Cluster.Node))!.Status!.BootId;
        await Cluster.CutPowerAsync();

        await Cluster.WaitForAsync<PciNode>(
            Cluster.Node,
            null,
            node =>
                node.Status?.BootId != boot
                && node.Status!.Assignments?.Any(assignment => assignment.State == HoldingState.Prepared) == true
        );
        ClaimDevice after = Assert.Single((await Cluster.WaitUntilReadyAsync("vf")).Status!.Devices!);
        Assert.Equal(before.Address, after.Address);
        await AssertBoundAsync(after.Address, after.IommuGroup);
        Assert.Equal("2", await Machine.SysfsAsync(Topology.Nic0, "sriov_numvfs"));
    }

    [ClusterFact]
    public async Task Another_card_at_the_claimed_address_is_noticed_after_the_boot_and_left_alone()
    {
        await ClaimNicAsync("nic");
        await Cluster.CutPowerAsync(new() { Nic1Model = "e1000e" });
        try
        {
            PassthroughClaim claim = await Cluster.WaitForClaimAsync(
                "nic",
                status =>
                    status.Conditions?.Any(c => c is { Type: Conditions.Ready, Status: "False" } && c.Reason == "DriftDetected") == true
                    || status.Refusals?.Any(refusal => refusal.Reason == "DriftDetected") == true
            );
            Assert.NotEqual(ClaimPhase.Allocated, claim.Status!.Phase);
            Assert.Equal("0x10d3", await Machine.SysfsAsync(Topology.Nic1, "device"));
            await AssertGivenBackAsync(Topology.Nic1, "e1000e");
            await Cluster.ReleaseAsync("nic");
        }
        finally
        {
            await Cluster.CutPowerAsync(Hardware.Standard);
        }
    }
}
