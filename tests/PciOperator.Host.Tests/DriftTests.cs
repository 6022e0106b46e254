using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>
/// Devices that are held and leave, move, come back or turn out to be others: the claim says so at the next look, and no other card is
/// touched.
/// </summary>
public class DriftTests
{
    [Fact]
    public async Task A_prepared_device_that_is_pulled_out_is_told_by_the_next_scan_and_comes_back_by_itself()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        string picture = lab.Picture();
        await lab.Agent.PrepareAsync(request);
        SimulatedFunction card = lab.Sim(Lab.Igb);
        int writes = lab.Simulated.Log.Count;

        lab.Simulated.Remove(Lab.Igb);
        lab.Agent.Scan(fresh: true);
        Holding gone = Assert.Single(lab.Agent.Holdings);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.DeviceGone), (gone.State, gone.Reason));
        Assert.Contains($"{Lab.Igb} is gone from the bus", gone.Message, StringComparison.Ordinal);

        // Back in its slot the kernel knows nothing of what was done to it, and may give its group another number: it is to be bound again.
        card.Group = 78;
        Replug(lab, card, Lab.Igb);
        Assert.Equal("igb", lab.Sim(Lab.Igb).Driver);
        lab.Agent.Scan(fresh: true);
        Assert.Equal(HoldingState.Preparing, Assert.Single(lab.Agent.Holdings).State);
        Assert.Equal(writes, lab.Simulated.Log.Count);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        Assert.Equal("vfio-pci", lab.Sim(Lab.Igb).Driver);
        lab.Agent.Scan();
        Assert.Equal(HoldingState.Prepared, Assert.Single(lab.Agent.Holdings).State);

        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(picture, lab.Picture());
    }

    [Fact]
    public async Task A_card_that_moved_to_another_slot_is_named_with_its_new_address_and_left_alone()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        await lab.Agent.PrepareAsync(request);
        SimulatedFunction card = lab.Sim(Lab.Igb);
        lab.Simulated.Remove(Lab.Igb);
        Replug(lab, card, "0000:21:01.0");
        int writes = lab.Simulated.Log.Count;

        lab.Agent.Scan(fresh: true);
        Holding moved = Assert.Single(lab.Agent.Holdings);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.DeviceGone), (moved.State, moved.Reason));
        Assert.Contains("is at 0000:21:01.0 now", moved.Message, StringComparison.Ordinal);
        Assert.Contains("is at 0000:21:01.0 now", (await lab.Agent.PrepareAsync(request)).Message, StringComparison.Ordinal);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(writes, lab.Simulated.Log.Count);
        Assert.Equal("igb", lab.Sim("0000:21:01.0").Driver);
    }

    [Theory]
    [InlineData("8086:1521", "a0369fffff777777")]
    [InlineData("8086:10c9", "a0369fffff777777")]
    [InlineData("8086:10c9", null)]
    public async Task Another_card_at_the_address_is_never_written_to_not_even_at_release(string ids, string? serial)
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        await lab.Agent.PrepareAsync(request);
        SimulatedFunction card = lab.Sim(Lab.Igb);
        lab.Simulated.Remove(Lab.Igb);
        (card.Ids, card.Serial) = (ids, serial);
        Replug(lab, card, Lab.Igb);
        int writes = lab.Simulated.Log.Count;

        lab.Agent.Scan(fresh: true);
        Holding other = Assert.Single(lab.Agent.Holdings);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.DriftDetected), (other.State, other.Reason));
        Assert.Equal(HoldingReasons.DriftDetected, (await lab.Agent.PrepareAsync(request)).Reason);
        lab.Simulated.Change(Lab.Igb, f => f.Driver = null); // not even a stranger that is on no driver
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(writes, lab.Simulated.Log.Count);
        Assert.Null(lab.Sim(Lab.Igb).Driver);
    }

    [Fact]
    public async Task A_group_that_grows_or_gets_another_number_is_told()
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.GpuFunctions);
        int group = lab.Sim(Lab.Gpu).Group!.Value;
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = "0000:24:00.4",
                Ids = "10de:1ad8",
                Class = 0x0c0330,
                Bridge = "0000:20:03.0",
                Group = group,
            }
        );
        lab.Agent.Scan(fresh: true);
        Holding grown = Assert.Single(lab.Agent.Holdings);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.DriftDetected), (grown.State, grown.Reason));
        Assert.Contains($"IOMMU group {group} also holds 0000:24:00.4", grown.Message, StringComparison.Ordinal);

        lab.Simulated.Remove("0000:24:00.4");
        lab.Agent.Scan(fresh: true);
        Assert.Equal(HoldingState.Preparing, Assert.Single(lab.Agent.Holdings).State);
        lab.Simulated.Change("0000:24:00.1", f => f.Group = 77);
        lab.Agent.Scan();
        Assert.Contains("is in IOMMU group 77 now", Assert.Single(lab.Agent.Holdings).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_device_that_somebody_unbinds_is_bound_again_only_when_nothing_uses_its_group()
    {
        var lab = new Lab();
        Holding holding = await lab.Prepare("claim-1", Lab.GpuFunctions);
        int guest = lab.Simulated.StartProcess("qemu-system-x86", holding.Devices[0].DeviceNode!);
        lab.Simulated.Change("0000:24:00.1", f => (f.Driver, f.Override) = ("snd_hda_intel", null));
        int writes = lab.Simulated.Log.Count;

        lab.Agent.Scan();
        Holding told = Assert.Single(lab.Agent.Holdings);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.NotBound), (told.State, told.Reason));
        Assert.Contains("0000:24:00.1 is on snd_hda_intel instead of vfio-pci", told.Message, StringComparison.Ordinal);
        Holding waits = await lab.Agent.PrepareAsync(holding.Request);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.NotBound), (waits.State, waits.Reason));
        Assert.Contains("qemu-system-x86", waits.Message, StringComparison.Ordinal);
        Assert.Equal(writes, lab.Simulated.Log.Count);

        lab.Simulated.StopProcess(guest);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(holding.Request)).State);
        Assert.Equal("vfio-pci", lab.Sim("0000:24:00.1").Driver);
    }

    [Theory]
    [InlineData("driver_override")]
    [InlineData("drivers_probe")]
    public async Task A_device_that_leaves_while_it_is_bound_again_stays_the_claims(string step)
    {
        // The kernel unbinds a card before it takes it off the bus, and a look may fall between.
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        string picture = lab.Picture();
        await lab.Agent.PrepareAsync(request);
        SimulatedFunction card = lab.Sim(Lab.Igb);
        lab.Simulated.Change(Lab.Igb, f => (f.Driver, f.Override) = (null, null));
        lab.Agent.Scan();
        Assert.Equal(HoldingReasons.NotBound, Assert.Single(lab.Agent.Holdings).Reason);
        lab.Simulated.Fault = a =>
        {
            if (a is not { Operation: SimulatedOperation.Write, Before: true } || !a.Path.EndsWith(step, StringComparison.Ordinal))
                return;
            lab.Simulated.Fault = null;
            lab.Simulated.Remove(Lab.Igb);
        };

        Holding left = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.DeviceGone), (left.State, left.Reason));
        lab.Agent.Scan(fresh: true);
        Assert.Contains($"{Lab.Igb} is gone from the bus", Assert.Single(lab.Agent.Holdings).Message, StringComparison.Ordinal);

        Replug(lab, card, Lab.Igb);
        lab.Agent.Scan(fresh: true);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(picture, lab.Picture());
    }

    [Fact]
    public async Task An_override_that_somebody_clears_is_set_again_under_a_running_guest()
    {
        var lab = new Lab();
        Holding holding = await lab.Prepare("claim-1", Lab.Nvme);
        lab.Simulated.StartProcess("qemu-system-x86", holding.Devices[0].DeviceNode!);
        lab.Simulated.Change(Lab.Nvme, f => f.Override = null);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(holding.Request)).State);
        Assert.Equal("vfio-pci", lab.Sim(Lab.Nvme).Override);
    }

    [Fact]
    public async Task A_device_that_leaves_while_it_is_bound_or_released_leaves_nothing_behind()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.GpuFunctions);
        lab.Simulated.Fault = a =>
        {
            if (
                a is { IsChange: true, Before: true }
                && a.Path.EndsWith("0000:24:00.2/driver_override", StringComparison.Ordinal)
                && lab.Simulated.Find("0000:24:00.2") is not null
            )
            {
                lab.Simulated.Remove("0000:24:00.2");
            }
        };
        Holding bound = await lab.Agent.PrepareAsync(request);
        lab.Simulated.Fault = null;
        Assert.Equal((HoldingState.Rejected, HoldingReasons.DeviceGone), (bound.State, bound.Reason));
        Assert.Contains("0000:24:00.2", bound.Message, StringComparison.Ordinal);
        Assert.Equal("nouveau", lab.Sim(Lab.Gpu).Driver);
        Assert.Empty(lab.Agent.Holdings);

        await lab.Prepare("claim-2", Lab.Igb);
        lab.Simulated.Fault = a =>
        {
            if (
                a is { IsChange: true, Before: true }
                && a.Path.EndsWith("/unbind", StringComparison.Ordinal)
                && lab.Simulated.Find(Lab.Igb) is not null
            )
            {
                lab.Simulated.Remove(Lab.Igb);
            }
        };
        Assert.Null(await lab.Agent.ReleaseAsync("claim-2"));
        Assert.Empty(lab.Agent.Holdings);
    }

    [Fact]
    public async Task A_card_that_is_replaced_while_the_agent_is_away_is_noticed_by_its_first_scan()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        await lab.Agent.PrepareAsync(request);
        lab.Simulated.CrashAgent();
        SimulatedFunction card = lab.Sim(Lab.Igb);
        lab.Simulated.Remove(Lab.Igb);
        card.Serial = "a0369fffff777777";
        Replug(lab, card, Lab.Igb);
        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        lab.Agent.Scan();
        Assert.Equal((HoldingState.Stuck, HoldingReasons.DriftDetected), (lab.Agent.Holdings[0].State, lab.Agent.Holdings[0].Reason));
    }

    [Fact]
    public async Task A_device_that_cannot_be_read_is_not_called_gone_and_a_slot_that_gets_its_name_is_no_drift()
    {
        var lab = new Lab();
        Holding holding = await lab.Prepare("claim-1", Lab.Nvme);
        lab.Simulated.Fault = a =>
        {
            if (a is { IsChange: false, Before: true } && a.Path.EndsWith("0000:23:00.0/vendor", StringComparison.Ordinal))
                throw new HostIoException("read", a.Path, Errnos.EIO);
        };
        Assert.Contains(lab.Agent.Scan().Problems, p => p.Contains(Lab.Nvme, StringComparison.Ordinal));
        lab.Simulated.Fault = null;
        Assert.Equal([holding], lab.Agent.Holdings);

        lab.Simulated.Change(Lab.Nvme, f => f.Slot = null);
        lab.Agent.Scan(fresh: true);
        Assert.Equal([holding], lab.Agent.Holdings);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(holding.Request)).State);
    }

    private static void Replug(Lab lab, SimulatedFunction card, string address)
    {
        (card.Address, card.Driver, card.Override) = (address, null, null);
        lab.Simulated.Add(card);
    }
}
