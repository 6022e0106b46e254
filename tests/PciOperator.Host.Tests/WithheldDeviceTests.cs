using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>What is remembered of a device beyond its claims: used once, not clean; and that no crash loses it.</summary>
public class WithheldDeviceTests(ITestOutputHelper output)
{
    private const string Hot = "vfio hot reset";
    private static readonly string Records = $"{SimulatedHost.StateDirectory}/devices";

    [Fact]
    public async Task A_device_of_one_time_use_is_kept_until_an_administrator_frees_it()
    {
        var lab = new Lab(options: new PassthroughHostOptions { NodeName = "node-7" });
        var address = PciAddress.Parse(Lab.Nvme);
        AssignmentRequest request = Once(lab, "claim-1", Lab.Nvme);
        await lab.Agent.PrepareAsync(request);

        // While the claim has it, nothing is withheld, and nobody frees it.
        Assert.Null(lab.Seen(Lab.Nvme).Withheld);
        Assert.False(lab.Agent.ClearUsedOnce(address));
        lab.Reboot();
        await lab.Agent.RecoverAsync();
        Assert.Null(lab.Seen(Lab.Nvme).Withheld);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));

        for (int boot = 0; boot < 2; boot++)
        {
            HostFunction seen = lab.Seen(Lab.Nvme);
            Assert.Equal("UsedOnce", seen.WithheldBy);
            Assert.Contains("lab/claim-1", seen.Withheld, StringComparison.Ordinal);
            Assert.EndsWith("kubectl annotate pcinode node-7 pcioperator.io/free=0000:23:00.0", seen.Withheld, StringComparison.Ordinal);
            Assert.Null(seen.GuardReason);
            foreach (ResetMode mode in Enum.GetValues<ResetMode>())
            {
                Holding refused = await lab.Agent.PrepareAsync(lab.Request("claim-2", d => d with { Reset = mode }, Lab.Nvme));
                Assert.Equal(
                    (HoldingState.Rejected, HoldingReasons.Withheld, seen.Withheld),
                    (refused.State, refused.Reason, refused.Message)
                );
            }

            lab.Reboot();
        }

        Assert.True(lab.Agent.ClearUsedOnce(address));
        Assert.False(lab.Agent.ClearUsedOnce(address));
        lab.RestartAgent();
        Assert.Null(lab.Seen(Lab.Nvme).Withheld);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", Lab.Nvme)).State);
    }

    [Fact]
    public async Task A_claim_that_never_had_its_devices_leaves_no_mark()
    {
        var lab = new Lab();
        lab.Simulated.Change("0000:24:00.2", f => f.FailingDrivers.Add("vfio-pci"));
        Assert.Equal(HoldingState.Rejected, (await lab.Agent.PrepareAsync(Once(lab, "claim-1", Lab.GpuFunctions))).State);
        Assert.All(Lab.GpuFunctions, f => Assert.Null(lab.Seen(f).Withheld));
    }

    [Fact]
    public async Task A_guest_that_spoils_the_serial_number_does_not_shed_the_mark()
    {
        var lab = new Lab();
        await lab.Agent.PrepareAsync(Once(lab, "claim-1", Lab.Igb));
        lab.Simulated.Change(Lab.Igb, f => f.Serial = null);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal("UsedOnce", lab.Agent.Scan(fresh: true).Functions.Single(f => f.Address == PciAddress.Parse(Lab.Igb)).WithheldBy);
        Assert.Equal(HoldingReasons.Withheld, (await lab.Prepare("claim-2", Lab.Igb)).Reason);
        Assert.True(lab.Agent.ClearUsedOnce(PciAddress.Parse(Lab.Igb)));
        Assert.Null(lab.Seen(Lab.Igb).Withheld);
    }

    [Fact]
    public async Task A_card_takes_its_mark_along()
    {
        var lab = new Lab();
        await lab.Agent.PrepareAsync(Once(lab, "claim-1", Lab.Igb));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        string serial = lab.Sim(Lab.Igb).Serial!;
        lab.Simulated.Change(Lab.Igb, f => f.Serial = "a0369fffff777777");
        lab.Simulated.Change("0000:81:00.0", f => f.Serial = serial);
        Assert.Null(lab.Agent.Scan(fresh: true).Functions.Single(f => f.Address == PciAddress.Parse(Lab.Igb)).Withheld);
        Assert.Equal("UsedOnce", lab.Seen("0000:81:00.0").WithheldBy);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", Lab.Igb)).State);
        Assert.Equal(HoldingReasons.Withheld, (await lab.Prepare("claim-3", "0000:81:00.0")).Reason);
    }

    [Fact]
    public async Task A_record_that_cannot_be_read_withholds_its_device_until_it_is_freed()
    {
        var lab = new Lab();
        await lab.Agent.PrepareAsync(Once(lab, "claim-1", Lab.Nvme));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        string record = Assert.Single(lab.Simulated.Files.List(Records));
        lab.Simulated.PutFile($"{Records}/{record}", "{\"formatVersion\": 1,");
        lab.Simulated.PutFile($"{Records}/{record}.17.tmp", "torn");
        lab.RestartAgent();
        HostFunction seen = lab.Seen(Lab.Nvme);
        Assert.Equal("UsedOnce", seen.WithheldBy);
        Assert.Contains($"{Records}-quarantine/{record}", seen.Withheld, StringComparison.Ordinal);
        Assert.Empty(lab.Simulated.Files.List(Records));
        Assert.Null(lab.Seen(Lab.Igb).Withheld);
        Assert.Equal(HoldingReasons.Withheld, (await lab.Prepare("claim-2", Lab.Nvme)).Reason);
        lab.RestartAgent();
        Assert.Equal("UsedOnce", lab.Seen(Lab.Nvme).WithheldBy);
        Assert.True(lab.Agent.ClearUsedOnce(PciAddress.Parse(Lab.Nvme)));
        lab.RestartAgent();
        Assert.Null(lab.Seen(Lab.Nvme).Withheld);
    }

    [Fact]
    public async Task A_record_of_a_newer_agent_stops_this_one()
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.Nvme);
        string record = $"{Records}/{Assert.Single(lab.Simulated.Files.List(Records))}";
        lab.Simulated.PutFile(
            record,
            lab.Simulated.Files.ReadText(record)!.Replace("\"formatVersion\": 1", "\"formatVersion\": 2", StringComparison.Ordinal)
        );
        lab.RestartAgent();
        JournalException e = await Assert.ThrowsAsync<JournalException>(() => lab.Agent.RecoverAsync());
        Assert.Contains("newer agent", e.Message, StringComparison.Ordinal);
    }

    /// <summary>
    /// Killed before and after every change of a whole life, a guest using the devices in between; then restarted or rebooted,
    /// prepared again or released: a device that a guest could have had is marked or still held, one that none could have had is not
    /// marked; nothing is dirty and offered; nothing is reset under a guest.
    /// </summary>
    [Trait("Cases", "Many")]
    [Theory]
    [InlineData(Lab.Nvme)]
    [InlineData(Lab.Gpu)]
    public async Task No_crash_loses_a_mark_or_leaves_one_or_gives_a_dirty_device_away(string device)
    {
        string[] devices = device == Lab.Gpu ? Lab.GpuFunctions : [device];
        int points = 0;
        foreach (bool failing in new[] { false, true })
        {
            foreach (bool reboot in new[] { false, true })
            {
                foreach (bool again in new[] { false, true })
                {
                    foreach (bool before in new[] { false, true })
                    {
                        for (
                            int index = TestScope.First(10);
                            await CrashAt(devices, index, before, again, reboot, failing);
                            index = TestScope.Next(index, 10)
                        )
                        {
                            points++;
                        }
                    }
                }
            }
        }

        output.WriteLine($"{points} crashes");
        Assert.True(points > TestScope.Cases(100, 12), $"{points} crashes");
    }

    private static async Task<bool> CrashAt(string[] devices, int index, bool before, bool again, bool reboot, bool failing)
    {
        var lab = new Lab();
        AssignmentRequest request = Once(lab, "claim-1", devices);
        bool hit = false,
            used = false;
        lab.Simulated.Fault = a =>
        {
            if (a.IsChange && a.Index == index && a.Before == before)
            {
                hit = true;
                lab.Simulated.CrashAgent();
            }
        };
        try
        {
            Holding prepared = await lab.Agent.PrepareAsync(request);
            Use(prepared);
            if (failing)
            {
                foreach (string device in devices)
                {
                    lab.Simulated.Change(
                        device,
                        f =>
                            f.FailingResets = new()
                            {
                                ["flr"] = Errnos.EIO,
                                ["pm"] = Errnos.EIO,
                                ["bus"] = Errnos.EIO,
                                [Hot] = Errnos.EIO,
                            }
                    );
                }
            }

            await lab.Agent.ReleaseAsync("claim-1");
        }
        catch (SimulatedCrashException)
        {
            Assert.True(hit);
        }

        lab.Simulated.Fault = null;
        string point = $"{index} {(before ? "before" : "after")} again={again} reboot={reboot} failing={failing}";
        if (reboot)
            lab.Reboot();
        else
            lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        bool held = lab.Agent.Holdings.Count > 0;
        foreach (string device in devices)
            Assert.True(!used || held || lab.Seen(device).WithheldBy == "UsedOnce", $"{point}: {device} was used and is offered");
        if (again && held)
        {
            Holding prepared = await lab.Agent.PrepareAsync(request);
            if (prepared.State == HoldingState.Prepared)
                Use(prepared);
        }

        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Empty(lab.Agent.Holdings);
        foreach (string device in devices)
        {
            SimulatedFunction f = lab.Sim(device);
            HostFunction seen = lab.Seen(device);
            Assert.False(f.ResetWhileOpen, point);
            Assert.Equal(f.HostDriver, f.Driver);
            Assert.Equal(f.ResetMethods, f.ChosenResets ?? f.ResetMethods);
            if (used)
                Assert.True(seen.WithheldBy == "UsedOnce", $"{point}: {device} was used and is offered");
            Assert.True(lab.Agent.ClearUsedOnce(PciAddress.Parse(device)) || !used, $"{point}: no mark");
            Assert.True(!f.Dirty || lab.Seen(device).WithheldBy == "NotClean", $"{point}: {device} is dirty and offered");
        }

        return hit;

        void Use(Holding prepared)
        {
            used = true;
            ResetTests.Soil(lab, prepared);
        }
    }

    private static AssignmentRequest Once(Lab lab, string claim, params string[] devices) =>
        lab.Request(claim, d => d with { OneTimeUse = true }, devices);
}
