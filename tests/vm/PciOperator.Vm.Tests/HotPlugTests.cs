using System.Diagnostics;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>Cards that come and go while the host runs.</summary>
public sealed class HotPlugTests(ClusterFixture fixture, ITestOutputHelper output) : ClusterTest(fixture)
{
    private const string Port = "80:02.0";

    public override async ValueTask DisposeAsync()
    {
        await base.DisposeAsync();
        await Machine.PullOutAsync("hot0");
    }

    [ClusterFact]
    public async Task A_card_that_is_plugged_in_is_offered_and_its_VFs_are_made()
    {
        await Cluster.OfferAsync("hot", new() { Address = Topology.HotPlugged }, Nic, numVfs: 2);
        await PlugInAsync();
        PciNodeDevice pf = await Cluster.WaitForDeviceAsync(
            Topology.HotPlugged,
            device => device is { NumVfs: 2, State: DeviceState.Available }
        );
        Assert.Equal(1, pf.NumaNode);
    }

    [ClusterFact]
    public async Task A_claimed_card_that_is_pulled_out_by_its_button_is_gone_for_its_claim()
    {
        await ClaimHotPluggedAsync();
        await Machine.PullOutAsync("hot0");
        await AssertGoneAsync();
    }

    [ClusterFact]
    public async Task A_claimed_card_that_is_pulled_out_by_surprise_is_gone_for_its_claim_within_a_second()
    {
        await ClaimHotPluggedAsync();
        Task gone = AssertGoneAsync();
        // The slot's power goes off behind the kernel's back, and QEMU takes the card out at once. Interrupts of the slot are off
        // until the power is on again: the kernel ignores a card that is missing from a slot without power.
        await Machine.OutputOfAsync($"setpci -s {Port} CAP_EXP+18.w=0700:0720 && setpci -s {Port} CAP_EXP+18.w=0120:0720");
        var watch = Stopwatch.StartNew();
        // QEMU sends the slot's interrupt when interrupts are switched on, and a port that sleeps may miss it. They are not off for a
        // moment while the kernel is at work on the slot: it would take them for off and hear of no card in it any more.
        await Machine.WaitUntilAsync(
            $"[ ! -e /sys/bus/pci/devices/{Topology.HotPlugged} ] || {{ n=$((n + 1)); [ $((n % 100)) != 0 ] || {{ setpci -s {Port} CAP_EXP+18.w=0000:0020; setpci -s {Port} CAP_EXP+18.w=0020:0020; }}; false; }}"
        );
        await gone;
        output.WriteLine($"the claim was told {watch.Elapsed.TotalSeconds:0.00} s after the card was pulled out");
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 10); // emulated processors, other load

        // The next card there is not this claim's. The kernel first switches the slot off, and a second later its light: QEMU
        // takes out what is in the slot when both are off. Then the kernel looks into the slot once more.
        await Machine.WaitUntilAsync($"[ $((0x$(setpci -s {Port} CAP_EXP+18.w) & 0x700)) = $((0x700)) ]");
        await Machine.OutputOfAsync("usleep 500000");
        await PlugInAsync();
        await Cluster.ReleaseAsync("hot");
        await AssertGivenBackAsync(Topology.HotPlugged, "igb");
    }

    private async Task PlugInAsync()
    {
        await Machine.PlugInAsync("hot0");
        await Machine.WaitUntilAsync($"[ -e /sys/bus/pci/devices/{Topology.HotPlugged}/driver ]");
    }

    private async Task ClaimHotPluggedAsync()
    {
        await PlugInAsync();
        await Cluster.OfferAsync("hot", new() { Address = Topology.HotPlugged }, Nic);
        await Cluster.ClaimAsync("hot", "hot");
        await Cluster.WaitUntilReadyAsync("hot");
    }

    private async Task AssertGoneAsync()
    {
        // The kernel unbinds a card before it takes it off the bus: a look that falls between says NotBound first.
        PassthroughClaim claim = await Cluster.WaitForClaimAsync(
            "hot",
            status => status.Conditions.Find(Conditions.Ready) is { Status: "False", Reason: "DeviceGone" }
        );
        Assert.Contains(Topology.HotPlugged, claim.Status!.Conditions.Find(Conditions.Ready)!.Message);
        await Cluster.WaitForDeviceAsync(Topology.HotPlugged, device => device.State == DeviceState.Removed);
    }
}
