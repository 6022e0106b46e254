using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>kill -9, power loss and errors before and after every single change and read of a claim's life.</summary>
public class RecoveryTests(ITestOutputHelper output)
{
    private static readonly string[][] Claims =
    [
        [Lab.Igb],
        [Lab.X710],
        Lab.GpuFunctions,
        [Lab.Nvme, Lab.X710Vf],
    ];

    private enum Ending
    {
        PrepareAgain,
        Release,
        RebootAndPrepare,
        RebootAndRelease,
    }

    public static TheoryData<string[]> Devices => [.. Claims];

    [Trait("Cases", "Many")]
    [Theory]
    [MemberData(nameof(Devices))]
    public async Task The_agent_is_killed_at_every_change_of_prepare_and_release(string[] devices)
    {
        int points = 0;
        foreach (bool releasing in new[] { false, true })
        {
            foreach (bool before in new[] { true, false })
            {
                foreach (Ending ending in Enum.GetValues<Ending>())
                {
                    for (int index = TestScope.First(8); ; index = TestScope.Next(index, 8))
                    {
                        bool hit = await CrashAt(devices, releasing, before, index, ending);
                        if (!hit)
                            break;
                        points++;
                    }
                }
            }
        }

        output.WriteLine($"{points} crashes, all ended right");
        Assert.True(points > TestScope.Cases(60, 10), $"only {points} crashes");
    }

    [Trait("Cases", "Many")]
    [Theory]
    [MemberData(nameof(Devices))]
    public async Task An_error_at_every_change_of_prepare_leaves_all_as_it_was_or_names_what_is_stuck(string[] devices)
    {
        int rejected = 0,
            stuck = 0,
            prepared = 0;
        foreach (bool before in new[] { true, false })
        {
            for (int index = TestScope.First(8); ; index = TestScope.Next(index, 8))
            {
                var lab = new Lab();
                string picture = lab.Picture();
                AssignmentRequest request = lab.Request("claim-1", devices);
                bool hit = false,
                    forgivable = false;
                Fault(
                    lab,
                    a => a.IsChange && a.Index == index && a.Before == before,
                    a =>
                    {
                        hit = true;
                        forgivable = IsForgivable(a);
                        throw new HostIoException("write", a.Path, Errnos.EIO);
                    }
                );
                Holding holding = await lab.Agent.PrepareAsync(request);
                lab.Simulated.Fault = null;
                if (!hit)
                    break;
                _ = holding.State switch
                {
                    HoldingState.Rejected => rejected++,
                    HoldingState.Stuck => stuck++,
                    _ => prepared++,
                };
                Assert.True(holding.State == HoldingState.Rejected || forgivable, $"{index} {before}: {holding.State}");
                if (holding.State == HoldingState.Rejected)
                {
                    Assert.Equal(picture, lab.Picture());
                    Assert.Empty(lab.Agent.Holdings);
                    Assert.NotNull(holding.Message);
                }

                Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
                Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
                Assert.Equal(picture, lab.Picture());
            }
        }

        output.WriteLine($"{rejected} rejected, {stuck} stuck, {prepared} prepared nevertheless");
        Assert.True(
            stuck == 0 && (TestScope.All ? rejected > Math.Max(8, prepared) : rejected + prepared > 0),
            $"{rejected} rejected, {stuck} stuck, {prepared} prepared"
        );
    }

    [Trait("Cases", "Many")]
    [Theory]
    [MemberData(nameof(Devices))]
    public async Task An_error_at_every_change_of_release_keeps_the_claim_until_all_is_as_it_was(string[] devices)
    {
        int points = 0;
        foreach (bool before in new[] { true, false })
        {
            for (int index = TestScope.First(8); ; index = TestScope.Next(index, 8))
            {
                var lab = new Lab();
                string picture = lab.Picture();
                ResetTests.Soil(lab, await lab.Prepare("claim-1", devices));
                int done = Changes(lab);
                bool hit = false,
                    forgivable = false;
                Fault(
                    lab,
                    a => a.IsChange && a.Index == done + index && a.Before == before,
                    a =>
                    {
                        hit = true;
                        forgivable = IsForgivable(a);
                        throw new HostIoException("write", a.Path, Errnos.EIO);
                    }
                );
                Holding? holding = await lab.Agent.ReleaseAsync("claim-1");
                lab.Simulated.Fault = null;
                if (!hit)
                    break;
                points++;
                Assert.True(holding is not null || forgivable, $"{index} {before}: released");
                if (holding is not null)
                {
                    Assert.Contains(holding.State, new[] { HoldingState.Releasing, HoldingState.Stuck });
                    Assert.NotNull(holding.Message);
                    Assert.Equal([holding], lab.Agent.Holdings);
                }

                Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
                Assert.Equal(picture, lab.Picture());
                Assert.All(
                    devices,
                    d => Assert.True(!lab.Sim(d).Dirty || lab.Seen(d).Withheld is not null, $"{index} {before}: {d} is dirty")
                );
            }
        }

        Assert.True(points > TestScope.Cases(8, 8), $"only {points} errors");
    }

    [Trait("Cases", "Many")]
    [Fact]
    public async Task An_error_at_every_read_of_prepare_takes_nothing_or_takes_all()
    {
        int rejected = 0,
            prepared = 0;
        for (int index = TestScope.First(8); ; index = TestScope.Next(index, 8))
        {
            var lab = new Lab();
            string picture = lab.Picture();
            AssignmentRequest request = lab.Request("claim-1", Lab.X710);
            await lab.Agent.RecoverAsync();
            int done = -1;
            lab.Simulated.Fault = a => done = a.IsChange ? done : Math.Max(done, a.Index);
            _ = lab.Simulated.Files.Exists("/");
            bool hit = false;
            Fault(
                lab,
                a => !a.IsChange && a.Before && a.Index == done + 1 + index,
                a =>
                {
                    hit = true;
                    throw new HostIoException("read", a.Path, Errnos.EIO);
                }
            );
            Holding holding = await lab.Agent.PrepareAsync(request);
            lab.Simulated.Fault = null;
            if (!hit)
                break;
            if (holding.State == HoldingState.Rejected)
            {
                rejected++;
                Assert.Equal(picture, lab.Picture());
            }
            else
            {
                prepared++;
                Assert.Equal(HoldingState.Prepared, holding.State);
            }

            Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
            Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
            Assert.Equal(picture, lab.Picture());
        }

        output.WriteLine($"{rejected} rejected, {prepared} prepared");
        Assert.True(rejected > TestScope.Cases(20, 10), $"{rejected} rejected, {prepared} prepared");
    }

    [Fact]
    public async Task A_prepared_claim_survives_a_restart_of_the_agent_and_is_not_touched()
    {
        var lab = new Lab();
        Holding holding = await lab.Prepare("claim-1", Lab.GpuFunctions);
        AssignmentRequest request = holding.Request;
        lab.Simulated.StartProcess("qemu-system-x86", holding.Devices[0].DeviceNode!);
        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        Assert.Equal([holding], lab.Agent.Holdings);
        int writes = lab.Simulated.Log.Count;
        Assert.Equal(holding, await lab.Agent.PrepareAsync(request));
        Assert.Equal(writes, lab.Simulated.Log.Count);
        Assert.Null(lab.Seen(Lab.Gpu).GuardReason);
    }

    [Fact]
    public async Task After_a_reboot_a_claim_is_bound_again_or_says_why_not()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Nvme);
        await lab.Agent.PrepareAsync(request);
        lab.Reboot();
        await lab.Agent.RecoverAsync();
        Holding recovered = Assert.Single(lab.Agent.Holdings);
        Assert.Equal((HoldingState.Preparing, HoldingReasons.Rebooted), (recovered.State, recovered.Reason));
        Assert.Equal("nvme", lab.Sim(Lab.Nvme).Driver);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);

        lab.Reboot();
        lab.Simulated.Change(Lab.Nvme, f => f.Disks[0].MountedAt = "/data");
        Holding refused = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.GuardRefused), (refused.State, refused.Reason));
        Assert.Equal("nvme", lab.Sim(Lab.Nvme).Driver);
        Assert.Empty(lab.Agent.Holdings);
    }

    [Fact]
    public async Task A_group_that_has_another_number_after_a_reboot_is_the_same_group_and_one_that_grew_is_not()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.GpuFunctions);
        await lab.Agent.PrepareAsync(request);
        lab.Reboot();
        foreach (string function in Lab.GpuFunctions)
            lab.Simulated.Change(function, f => f.Group = 77);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        lab.RestartAgent();
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);

        lab.Reboot();
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = "0000:24:00.4",
                Ids = "10de:1ad8",
                Class = 0x0c0330,
                Bridge = "0000:20:03.0",
                Group = 77,
            }
        );
        Holding grown = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.DriftDetected), (grown.State, grown.Reason));
        Assert.All(Lab.GpuFunctions, f => Assert.NotEqual("vfio-pci", lab.Sim(f).Driver));
    }

    [Fact]
    public async Task A_card_that_moved_or_was_swapped_is_not_bound_by_mistake()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        lab.Simulated.Change(Lab.Igb, f => f.Serial = "a0369fffff777777");
        Holding swapped = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.DriftDetected), (swapped.State, swapped.Reason));

        lab.Simulated.Change(Lab.Igb, f => f.Ids = "8086:1521");
        Assert.Equal(HoldingReasons.DriftDetected, (await lab.Agent.PrepareAsync(request)).Reason);

        lab.Simulated.Remove(Lab.Igb);
        Assert.Equal(HoldingReasons.DeviceGone, (await lab.Agent.PrepareAsync(request)).Reason);
        Assert.Empty(lab.Simulated.Log);
    }

    [Fact]
    public async Task A_serial_number_that_cannot_be_read_while_a_guest_uses_the_card_is_no_drift()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        await lab.Agent.PrepareAsync(request);
        lab.Simulated.Change(Lab.Igb, f => f.Serial = null);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        lab.Simulated.Change(Lab.Igb, f => f.Serial = "a0369fffff777777");
        Assert.Equal(
            (HoldingState.Stuck, HoldingReasons.DriftDetected),
            ((await lab.Agent.PrepareAsync(request)).State, (await lab.Agent.PrepareAsync(request)).Reason)
        );
    }

    [Fact]
    public async Task A_prepared_device_that_is_pulled_out_is_named_and_can_be_let_go()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        await lab.Agent.PrepareAsync(request);
        SimulatedFunction card = lab.Sim(Lab.Igb);
        lab.Simulated.Remove(Lab.Igb);
        Holding gone = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.DeviceGone), (gone.State, gone.Reason));

        // A stranger in its place is left alone.
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = Lab.Igb,
                Ids = "8086:1521",
                Class = 0x020000,
                Bridge = card.Bridge,
                HostDriver = "igb",
            }
        );
        Assert.Equal(HoldingReasons.DriftDetected, (await lab.Agent.PrepareAsync(request)).Reason);
        int writes = lab.Simulated.Log.Count;
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(writes, lab.Simulated.Log.Count);
        Assert.Equal("igb", lab.Sim(Lab.Igb).Driver);
    }

    [Fact]
    public async Task A_group_that_grew_is_not_taken()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.GpuFunctions[..3]);
        Holding holding = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.DriftDetected), (holding.State, holding.Reason));
        Assert.Contains("also holds 0000:24:00.3", holding.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_bridge_whose_driver_spoils_the_group_is_named()
    {
        var lab = new Lab();
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = "0000:24:1f.0",
                Ids = "1b36:000e",
                Class = 0x060400,
                Bridge = "0000:20:03.0",
                Group = lab.Seen(Lab.Gpu).Function.IommuGroup,
                HostDriver = "shpchp",
            }
        );
        Holding holding = await lab.Prepare("claim-1", Lab.GpuFunctions);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.GroupNotViable), (holding.State, holding.Reason));
        Assert.Contains("shpchp", holding.Message, StringComparison.Ordinal);
        lab.Simulated.Change("0000:24:1f.0", f => f.Driver = null);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.GpuFunctions)).State);
    }

    [Fact]
    public async Task A_driver_that_does_not_bind_is_noticed_and_undone()
    {
        var lab = new Lab();
        string picture = lab.Picture();
        lab.Simulated.Change("0000:24:00.2", f => f.FailingDrivers.Add("vfio-pci"));
        Holding holding = await lab.Prepare("claim-1", Lab.GpuFunctions);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.BindFailed), (holding.State, holding.Reason));
        Assert.Contains("0000:24:00.2", holding.Message, StringComparison.Ordinal);
        Assert.Equal(picture, lab.Picture());
    }

    [Fact]
    public async Task A_host_driver_that_does_not_come_back_is_Stuck_until_it_does()
    {
        var lab = new Lab();
        string picture = lab.Picture();
        await lab.Prepare("claim-1", Lab.GpuFunctions);
        lab.Simulated.Change(Lab.Gpu, f => f.FailingDrivers.Add("nouveau"));
        Holding? holding = await lab.Agent.ReleaseAsync("claim-1");
        Assert.Equal((HoldingState.Stuck, HoldingReasons.RestoreFailed), (holding!.State, holding.Reason));
        Assert.Contains($"{Lab.Gpu} to its own driver nouveau", holding.Message, StringComparison.Ordinal);
        Assert.Equal("snd_hda_intel", lab.Sim("0000:24:00.1").Driver);
        lab.Simulated.Change(Lab.Gpu, f => f.FailingDrivers.Clear());
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(picture, lab.Picture());
    }

    [Fact]
    public async Task Without_an_IOMMU_the_claim_says_what_to_change()
    {
        foreach ((bool firmware, string says) in new[] { (true, "intel_iommu=on"), (false, "BIOS") })
        {
            var lab = new Lab(LabHosts.Builder().WithoutIommu(firmware).Build());
            Assert.False(lab.Agent.Scan().Iommu.Enabled);
            Holding holding = await lab.Prepare("claim-1", Lab.Igb);
            Assert.Equal((HoldingState.Rejected, HoldingReasons.NoIommuGroup), (holding.State, holding.Reason));
            Assert.Contains(says, holding.Message, StringComparison.Ordinal);
        }

        var unsafeLab = new Lab(LabHosts.Builder().UnsafeNoIommu().Build());
        Assert.Equal(HoldingReasons.NoIommuGroup, (await unsafeLab.Prepare("claim-1", Lab.Igb)).Reason);
        Assert.Equal("UnsafeNoIommu", unsafeLab.Seen(Lab.Igb).GuardName);
    }

    [Fact]
    public async Task A_torn_journal_entry_is_kept_aside_and_reported()
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.Igb);
        string path = $"{SimulatedHost.StateDirectory}/journal/claim-1.json";
        lab.Simulated.PutFile(path, lab.Simulated.Files.ReadText(path)![..100]);
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        Holding holding = Assert.Single(lab.Agent.Holdings);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.JournalCorrupt), (holding.State, holding.Reason));
        Assert.Equal(holding, await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(holding, await lab.Agent.PrepareAsync(request));
        Assert.Equal("ForeignVfioBinding", lab.Seen(Lab.Igb).GuardName);

        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        Assert.Equal([holding], lab.Agent.Holdings);
        lab.Simulated.RemoveFile($"{SimulatedHost.StateDirectory}/journal-quarantine/claim-1.json");
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Empty(lab.Agent.Holdings);
    }

    [Fact]
    public async Task A_newer_journal_is_not_touched()
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.Igb);
        string path = $"{SimulatedHost.StateDirectory}/journal/claim-1.json";
        string newer = lab
            .Simulated.Files.ReadText(path)!
            .Replace("\"formatVersion\": 2", "\"formatVersion\": 3", StringComparison.Ordinal);
        lab.Simulated.PutFile(path, newer);
        lab.RestartAgent();
        JournalException e = await Assert.ThrowsAsync<JournalException>(() => lab.Agent.RecoverAsync());
        Assert.Contains("newer agent", e.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<JournalException>(() => lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(newer, lab.Simulated.Files.ReadText(path));
    }

    /// <summary>
    /// A reset that fails is followed by another one, and by a mark when none works; a VF's settings are tried again at once.
    /// </summary>
    private static bool IsForgivable(SimulatedAccess a) =>
        a.Path.StartsWith("rtnetlink/", StringComparison.Ordinal)
        || a.Operation == SimulatedOperation.HotReset
        || a.Path.Contains("/reset", StringComparison.Ordinal)
        || a.Path.StartsWith($"{SimulatedHost.StateDirectory}/devices/", StringComparison.Ordinal);

    /// <returns>Whether there was such a point.</returns>
    private static async Task<bool> CrashAt(string[] devices, bool releasing, bool before, int index, Ending ending)
    {
        var lab = new Lab();
        string picture = lab.Picture();
        AssignmentRequest request = lab.Request("claim-1", devices);
        int done = 0;
        if (releasing)
        {
            Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
            done = Changes(lab);
        }

        bool hit = false;
        Fault(
            lab,
            a => a.IsChange && a.Before == before && a.Index == done + index,
            _ =>
            {
                hit = true;
                lab.Simulated.CrashAgent();
            }
        );
        Task work = releasing ? lab.Agent.ReleaseAsync("claim-1") : (Task)lab.Agent.PrepareAsync(request);
        try
        {
            await work;
        }
        catch (SimulatedCrashException)
        {
            Assert.True(hit);
        }

        lab.Simulated.Fault = null;
        if (!hit)
            return false;
        if (ending is Ending.RebootAndPrepare or Ending.RebootAndRelease)
        {
            lab.Reboot();
            lab.Simulated.Change(Lab.X710, f => f.Override = null);
            if (devices.Contains(Lab.X710Vf))
            {
                // The VFs of before the reboot are made again, as an administrator's script does.
                lab.Simulated.Files.Write($"/sys/bus/pci/devices/{Lab.X710}/sriov_numvfs", "4");
            }
        }
        else
        {
            lab.RestartAgent();
        }

        await lab.Agent.RecoverAsync();
        if (ending is Ending.PrepareAgain or Ending.RebootAndPrepare)
        {
            Holding holding = await lab.Agent.PrepareAsync(request with { Devices = Now(lab, request) });
            Assert.True(
                holding.State == HoldingState.Prepared,
                $"{(releasing ? "release" : "prepare")} {before} {index} {ending}: {holding.Reason} {holding.Message}"
            );
            Assert.All(devices, d => Assert.Equal("vfio-pci", lab.Sim(d).Driver));
        }

        Holding? released = await lab.Agent.ReleaseAsync("claim-1");
        Assert.True(
            released is null,
            $"{(releasing ? "release" : "prepare")} {before} {index} {ending}: {released?.Reason} {released?.Message}"
        );
        Assert.Empty(lab.Agent.Holdings);
        bool lost = ending == Ending.RebootAndRelease || (ending == Ending.RebootAndPrepare && !devices.Contains(Lab.X710));
        string expected = lost && !devices.Contains(Lab.X710Vf) ? WithoutVfs(picture) : picture;
        string actual = lab.Picture();
        if (ending == Ending.RebootAndPrepare && devices.Contains(Lab.X710) && actual == WithoutVfs(picture))
            return true; // killed after the journal was cleared, or before it was written: the reboot alone removed the VFs
        if (ending is Ending.RebootAndPrepare or Ending.RebootAndRelease)
            (expected, actual) = (WithoutMacs(expected), WithoutMacs(actual));
        Assert.Equal(expected, actual);
        return true;
    }

    /// <summary>A VF's driver chooses another MAC after a reboot.</summary>
    private static string WithoutMacs(string picture) => System.Text.RegularExpressions.Regex.Replace(picture, "Mac = [0-9a-f:]+", "Mac");

    /// <summary>VFs get other groups when they are made again.</summary>
    private static List<DeviceToTake> Now(Lab lab, AssignmentRequest request) =>
        [.. request.Devices.Select(d => d with { IommuGroup = lab.Seen(d.Address.ToString()).Function.IommuGroup })];

    private static string WithoutVfs(string picture) =>
        string.Join(
            '\n',
            picture
                .Split('\n')
                .Where(line => !line.StartsWith("0000:82:02.", StringComparison.Ordinal))
                .Select(line => line.StartsWith(Lab.X710, StringComparison.Ordinal) ? line[..^1] + "0" : line)
        );

    private static int Changes(Lab lab)
    {
        int last = -1;
        lab.Simulated.Fault = a => last = a.IsChange ? a.Index : last;
        lab.Simulated.Files.Delete("/tmp/none");
        lab.Simulated.Fault = null;
        return last + 1;
    }

    private static void Fault(Lab lab, Func<SimulatedAccess, bool> when, Action<SimulatedAccess> what) =>
        lab.Simulated.Fault = a =>
        {
            if (when(a))
                what(a);
        };
}
