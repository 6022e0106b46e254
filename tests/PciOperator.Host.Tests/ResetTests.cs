using PciOperator.Core;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Host.Tests;

/// <summary>Resets before a claim gets its devices and after it gave them back.</summary>
public class ResetTests
{
    private const string Hot = "vfio hot reset";

    [Fact]
    public async Task A_device_is_reset_before_its_owner_gets_it_and_after()
    {
        var lab = new Lab();
        Holding holding = await lab.Prepare("claim-1", Lab.Igb);
        Assert.Equal((HoldingState.Prepared, 1), (holding.State, lab.Sim(Lab.Igb).Resets));
        Assert.Equal("flr", lab.Seen(Lab.Igb).ProvenReset);
        int vm = lab.Simulated.StartProcess("qemu-system-x86", holding.Devices[0].DeviceNode!);
        Assert.True(lab.Sim(Lab.Igb).Dirty);
        Assert.Equal(HoldingReasons.InUse, (await lab.Agent.ReleaseAsync("claim-1"))!.Reason);
        Assert.Equal(1, lab.Sim(Lab.Igb).Resets);
        lab.Simulated.StopProcess(vm);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        SimulatedFunction after = lab.Sim(Lab.Igb);
        Assert.Equal((2, false, false, "igb"), (after.Resets, after.Dirty, after.ResetWhileOpen, after.Driver));

        // While it was on vfio, and not before or after.
        string[] writes = Writes(lab);
        Assert.True(Array.IndexOf(writes, "reset=1") > Array.IndexOf(writes, "drivers_probe=" + Lab.Igb));
        Assert.True(Array.LastIndexOf(writes, "reset=1") < Array.LastIndexOf(writes, "unbind=" + Lab.Igb));
        Assert.Null(lab.Seen(Lab.Igb).Withheld);
    }

    [Fact]
    public async Task Without_a_wish_for_it_nothing_is_reset()
    {
        var lab = new Lab();
        await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { Reset = ResetMode.Skip }, Lab.Igb));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(0, lab.Sim(Lab.Igb).Resets);
        Assert.DoesNotContain(Writes(lab), w => w.StartsWith("reset", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_device_that_binds_and_that_no_VM_could_open_is_refused_and_put_back()
    {
        var lab = new Lab();
        string before = lab.Picture();
        lab.Simulated.Change(Lab.Gpu, f => f.CannotBeEnabled = true);
        Holding refused = await lab.Prepare("claim-1", Lab.GpuFunctions);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.OpenFailed), (refused.State, refused.Reason));
        Assert.Contains($"{Lab.Gpu} is bound to vfio-pci, but no VM could open it", refused.Message, StringComparison.Ordinal);
        Assert.Contains("pci=realloc", refused.Message, StringComparison.Ordinal);
        Assert.Equal(before, lab.Picture());

        lab.Simulated.Change(Lab.Gpu, f => f.CannotBeEnabled = false);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.GpuFunctions)).State);
    }

    [Fact]
    public async Task A_device_is_opened_at_its_first_claim_of_a_boot_and_never_when_it_must_not_be_reset()
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.Igb);
        await lab.Agent.ReleaseAsync("claim-1");
        lab.Simulated.Change(Lab.Igb, f => f.CannotBeEnabled = true);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", Lab.Igb)).State);
        await lab.Agent.ReleaseAsync("claim-2");

        lab.Reboot();
        Assert.Equal(
            HoldingState.Prepared,
            (await lab.Agent.PrepareAsync(lab.Request("claim-3", d => d with { Reset = ResetMode.Skip }, Lab.Igb))).State
        );
        await lab.Agent.ReleaseAsync("claim-3");
        Assert.Equal(HoldingReasons.OpenFailed, (await lab.Prepare("claim-4", Lab.Igb)).Reason);
    }

    [Fact]
    public async Task What_the_administrator_binds_is_reset_and_never_bound()
    {
        var lab = new Lab();
        lab.Simulated.Files.LoadModule("vfio-pci");
        lab.Simulated.Change(Lab.Igb, f => (f.Override, f.Driver) = ("vfio-pci", "vfio-pci"));
        Holding holding = await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { Managed = false }, Lab.Igb));
        Assert.Equal(HoldingState.Prepared, holding.State);
        Soil(lab, holding);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        SimulatedFunction f = lab.Sim(Lab.Igb);
        Assert.Equal((2, false, "vfio-pci"), (f.Resets, f.Dirty, f.Driver));
        Assert.All(Writes(lab), w => Assert.StartsWith("reset", w, StringComparison.Ordinal));
        Assert.Equal("flr pm bus", lab.Simulated.Files.ReadText($"/sys/bus/pci/devices/{Lab.Igb}/reset_method"));
    }

    [Fact]
    public async Task A_device_that_was_handed_out_is_not_reset_again_in_the_same_boot()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        await lab.Agent.PrepareAsync(request);
        Assert.Equal(
            HoldingState.Prepared,
            (
                await lab.Agent.PrepareAsync(
                    request with
                    {
                        Devices = [.. request.Devices.Select(d => d with { Reset = ResetMode.Required })],
                    }
                )
            ).State
        );
        lab.RestartAgent();
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);

        // Somebody cleared the override: it is bound anew, under whoever has it.
        lab.Simulated.Change(Lab.Igb, f => f.Override = null);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        Assert.Equal(1, lab.Sim(Lab.Igb).Resets);

        lab.Reboot();
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        Assert.Equal(2, lab.Sim(Lab.Igb).Resets);
    }

    [Fact]
    public async Task Methods_are_tried_one_by_one_the_list_is_put_back_and_the_one_that_worked_is_first_next_time()
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Igb, f => (f.FailingResets["flr"], f.FailingResets["pm"]) = (Errnos.EIO, Errnos.ENOTTY));
        await lab.Prepare("claim-1", Lab.Igb);
        Assert.Equal(
            [
                "reset_method=flr",
                "reset=1:EIO",
                "reset_method=pm",
                "reset=1:ENOTTY",
                "reset_method=bus",
                "reset=1",
                "reset_method=flr pm bus",
            ],
            Resets(lab)
        );
        Assert.Equal("bus", lab.Seen(Lab.Igb).ProvenReset);
        lab.RestartAgent();
        int done = Resets(lab).Length;
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(["reset_method=bus", "reset=1", "reset_method=flr pm bus"], Resets(lab)[done..]);

        // The first of the list needs no list of its own once it has worked.
        await lab.Prepare("claim-2", Lab.X520);
        done = Resets(lab).Length;
        Assert.Null(await lab.Agent.ReleaseAsync("claim-2"));
        Assert.Equal(["reset=1"], Resets(lab)[done..]);
    }

    [Fact]
    public async Task A_method_that_leaves_the_device_silent_does_not_count()
    {
        var lab = new Lab(options: Impatient);
        lab.Simulated.Change(Lab.Igb, f => f.DeadAfterResets = ["flr"]);
        Holding holding = await lab.Prepare("claim-1", Lab.Igb);
        Assert.Equal(HoldingState.Prepared, holding.State);
        Assert.Equal("pm", lab.Seen(Lab.Igb).ProvenReset);
    }

    [Theory]
    [InlineData(ResetMode.BestEffort)]
    [InlineData(ResetMode.Required)]
    public async Task A_device_that_does_not_come_back_is_given_to_nobody_until_the_next_boot(ResetMode mode)
    {
        var lab = new Lab(options: Impatient);
        string picture = lab.Picture();
        lab.Simulated.Change(Lab.Nvme, f => f.DeadAfterResets = ["flr", "bus", Hot]);
        Holding holding = await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { Reset = mode }, Lab.Nvme));
        Assert.Equal((HoldingState.Rejected, HoldingReasons.ResetFailed), (holding.State, holding.Reason));
        Assert.Contains(
            "does not answer any more. Tried: flr: its configuration space reads ffff; bus: its configuration space reads ffff; vfio hot reset: its configuration space reads ffff.",
            holding.Message,
            StringComparison.Ordinal
        );
        Assert.Equal(picture, lab.Picture());
        Assert.Equal("NotClean", lab.Seen(Lab.Nvme).WithheldBy);
        Assert.Equal(HoldingReasons.Withheld, (await lab.Prepare("claim-2", Lab.Nvme)).Reason);
        lab.Reboot();
        Assert.NotEqual("NotClean", lab.Seen(Lab.Nvme).WithheldBy);
    }

    [Fact]
    public async Task One_hot_reset_cleans_a_whole_card()
    {
        var lab = new Lab();
        Holding holding = await lab.Agent.PrepareAsync(
            lab.Request("claim-1", d => d with { Reset = ResetMode.Required }, Lab.GpuFunctions)
        );
        Assert.Equal(HoldingState.Prepared, holding.State);
        Assert.Null(holding.Message);
        Assert.Equal(["reset=1:ENOTTY", $"hot reset of {Lab.Gpu}={lab.Seen(Lab.Gpu).Function.IommuGroup}"], Resets(lab));
        Assert.All(Lab.GpuFunctions, f => Assert.Equal(Hot, lab.Seen(f).ProvenReset));
        Soil(lab, holding);
        Assert.All(Lab.GpuFunctions, f => Assert.True(lab.Sim(f).Dirty));
        int done = Resets(lab).Length;
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal([$"hot reset of {Lab.Gpu}={lab.Seen(Lab.Gpu).Function.IommuGroup}"], Resets(lab)[done..]);
        Assert.All(Lab.GpuFunctions, f => Assert.False(lab.Sim(f).Dirty));
    }

    [Fact]
    public async Task Functions_that_can_be_reset_alone_are_and_a_hot_reset_spares_nobody()
    {
        var lab = new Lab();
        foreach (string function in Lab.GpuFunctions)
            lab.Simulated.Change(function, f => f.ResetMethods = "flr");
        await lab.Prepare("claim-1", Lab.GpuFunctions);
        Assert.Equal(["reset=1", "reset=1", "reset=1", "reset=1"], Resets(lab));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));

        // One that is not to be reset is not reset with another.
        var other = new Lab();
        string picture = other.Picture();
        Holding refused = await other.Agent.PrepareAsync(
            other.Request(
                "claim-1",
                d => d with { Reset = d.Address.Function == 2 ? ResetMode.Skip : ResetMode.Required },
                Lab.GpuFunctions
            )
        );
        Assert.Equal(HoldingReasons.ResetFailed, refused.Reason);
        Assert.Contains(
            "vfio hot reset: it would also reset 0000:24:00.2, whose spec says reset: skip",
            refused.Message,
            StringComparison.Ordinal
        );
        Assert.Equal(picture, other.Picture());
    }

    [Fact]
    public async Task A_hot_reset_stays_within_the_claim()
    {
        var lab = new Lab(TwoPorts());
        const string first = "0000:25:00.0",
            second = "0000:25:00.1";
        Holding holding = await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { Reset = ResetMode.Required }, first));
        Assert.Equal((HoldingState.Rejected, HoldingReasons.ResetFailed), (holding.State, holding.Reason));
        Assert.Contains(
            $"{first} could not be reset. Tried: bus: ENOTTY (not possible with this device); vfio hot reset: it would also reset {second}, which the claim doesn't hold.",
            holding.Message,
            StringComparison.Ordinal
        );
        Assert.Contains("reset: required", holding.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(lab.Simulated.Log, w => w.Path.StartsWith("hot reset", StringComparison.Ordinal));

        // With both ports it can be done, across two groups.
        holding = await lab.Agent.PrepareAsync(lab.Request("claim-2", d => d with { Reset = ResetMode.Required }, first, second));
        Assert.Equal((HoldingState.Prepared, null), (holding.State, holding.Message));
        Assert.Equal((1, 1), (lab.Sim(first).Resets, lab.Sim(second).Resets));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-2"));
        Assert.Null(lab.Seen(first).Withheld);
    }

    [Fact]
    public async Task A_required_reset_that_nothing_does_refuses_the_claim_and_is_remembered()
    {
        var lab = new Lab();
        string picture = lab.Picture();
        lab.Simulated.Change(
            Lab.Nvme,
            f =>
                f.FailingResets = new()
                {
                    ["flr"] = Errnos.EIO,
                    ["bus"] = Errnos.ETIMEDOUT,
                    [Hot] = Errnos.EIO,
                }
        );
        AssignmentRequest required = lab.Request("claim-1", d => d with { Reset = ResetMode.Required, OneTimeUse = true }, Lab.Nvme);
        Holding holding = await lab.Agent.PrepareAsync(required);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.ResetFailed), (holding.State, holding.Reason));
        foreach (string said in new[] { Lab.Nvme, "flr: EIO", "bus: ETIMEDOUT", "vfio hot reset: ", "reset: required" })
            Assert.Contains(said, holding.Message, StringComparison.Ordinal);
        Assert.Equal(picture, lab.Picture());
        Assert.Equal("flr bus", lab.Simulated.Files.ReadText($"/sys/bus/pci/devices/{Lab.Nvme}/reset_method"));

        lab.RestartAgent();
        HostFunction seen = lab.Seen(Lab.Nvme);
        Assert.Equal(("NoReset", null), (seen.WithheldBy, seen.ProvenReset));
        int writes = lab.Simulated.Log.Count;
        Holding refused = await lab.Agent.PrepareAsync(required with { ClaimUid = "claim-2" });
        Assert.Equal((HoldingState.Rejected, HoldingReasons.Withheld, writes), (refused.State, refused.Reason, lab.Simulated.Log.Count));

        // Without such a wish it is given away, and says so; one reset that works ends it.
        Holding effort = await lab.Prepare("claim-3", Lab.Nvme);
        Assert.Equal((HoldingState.Prepared, HoldingReasons.NotReset), (effort.State, effort.Reason));
        Assert.Contains("could not be reset", effort.Message, StringComparison.Ordinal);
        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        Assert.Equal([effort], lab.Agent.Holdings);
        lab.Simulated.Change(Lab.Nvme, f => f.FailingResets.Clear());
        Assert.Null(await lab.Agent.ReleaseAsync("claim-3"));
        Assert.Equal((null, "flr"), (lab.Seen(Lab.Nvme).Withheld, lab.Seen(Lab.Nvme).ProvenReset));
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(required)).State);
    }

    [Fact]
    public async Task Other_methods_of_the_kernels_end_what_is_remembered()
    {
        var lab = new Lab();
        lab.Simulated.Change(
            Lab.Nvme,
            f =>
                f.FailingResets = new()
                {
                    ["flr"] = Errnos.EIO,
                    ["bus"] = Errnos.EIO,
                    [Hot] = Errnos.EIO,
                }
        );
        AssignmentRequest required = lab.Request("claim-1", d => d with { Reset = ResetMode.Required }, Lab.Nvme);
        await lab.Agent.PrepareAsync(required);
        Assert.Equal("NoReset", lab.Seen(Lab.Nvme).WithheldBy);
        lab.Simulated.Change(Lab.Nvme, f => (f.ResetMethods, f.ChosenResets) = ("device_specific flr bus", null));
        Assert.Null(lab.Seen(Lab.Nvme).WithheldBy);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(required)).State);
        Assert.Equal("device_specific", lab.Seen(Lab.Nvme).ProvenReset);
    }

    [Theory]
    [InlineData(ResetMode.Required, true)]
    [InlineData(ResetMode.BestEffort, true)]
    [InlineData(ResetMode.BestEffort, false)]
    public async Task A_device_that_cannot_be_cleaned_afterwards_goes_to_its_host_driver_and_to_no_claim(ResetMode mode, bool hadWorked)
    {
        var lab = new Lab();
        string picture = lab.Picture();
        Dictionary<string, int> failing = new()
        {
            ["flr"] = Errnos.EIO,
            ["bus"] = Errnos.EIO,
            [Hot] = Errnos.EIO,
        };
        if (!hadWorked)
            lab.Simulated.Change(Lab.Nvme, f => f.FailingResets = failing);
        Holding holding = await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { Reset = mode }, Lab.Nvme));
        Soil(lab, holding);
        lab.Simulated.Change(Lab.Nvme, f => f.FailingResets = failing);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(picture, lab.Picture());
        Assert.True(lab.Sim(Lab.Nvme).Dirty);
        lab.RestartAgent();
        HostFunction seen = lab.Seen(Lab.Nvme);
        if (!hadWorked)
        {
            Assert.Equal("NoReset", seen.WithheldBy);
            return;
        }

        Assert.Equal("NotClean", seen.WithheldBy);
        Assert.Contains("After the claim lab/claim-1", seen.Withheld, StringComparison.Ordinal);
        Assert.Contains("next boot", seen.Withheld, StringComparison.Ordinal);
        Assert.Equal(HoldingReasons.Withheld, (await lab.Prepare("claim-2", Lab.Nvme)).Reason);
        lab.Reboot();
        Assert.Null(lab.Seen(Lab.Nvme).Withheld);
        lab.Simulated.Change(Lab.Nvme, f => f.FailingResets = []);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", Lab.Nvme)).State);
    }

    [Fact]
    public async Task A_device_that_dies_in_its_last_reset_is_let_go_without_a_driver()
    {
        var lab = new Lab(options: Impatient);
        await lab.Prepare("claim-1", Lab.Nvme);
        lab.Simulated.Change(
            Lab.Nvme,
            f =>
            {
                f.DeadAfterResets = ["flr", "bus", Hot];
                f.FailingDrivers.Add("nvme");
            }
        );
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Empty(lab.Agent.Holdings);
        Assert.Equal((null, null), (lab.Sim(Lab.Nvme).Driver, lab.Sim(Lab.Nvme).Override));
        Assert.Equal("NotClean", lab.Seen(Lab.Nvme).WithheldBy);
    }

    [Fact]
    public async Task A_VF_is_reset_although_its_ids_read_ffff()
    {
        var lab = new Lab();
        Assert.Equal(
            ushort.MaxValue,
            BitConverter.ToUInt16(lab.Simulated.Files.ReadBytes($"/sys/bus/pci/devices/{Lab.X710Vf}/config", 64))
        );
        Holding holding = await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { Reset = ResetMode.Required }, Lab.X710Vf));
        Assert.Equal((HoldingState.Prepared, "flr"), (holding.State, lab.Seen(Lab.X710Vf).ProvenReset));
        lab.Simulated.Change(Lab.X710Vf, f => f.FailingResets["flr"] = Errnos.EAGAIN);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal("NotClean", lab.Seen(Lab.X710Vf).WithheldBy);
    }

    [Fact]
    public async Task A_reset_that_hangs_makes_its_claim_Stuck_and_goes_on()
    {
        var time = new FakeTimeProvider();
        var lab = new Lab(time: time);
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        using var kernel = new ManualResetEventSlim();
        var hangs = new TaskCompletionSource();
        lab.Simulated.Fault = a =>
        {
            if (a.Before && a.Path.EndsWith("/reset", StringComparison.Ordinal) && a.IsChange)
            {
                hangs.TrySetResult();
                kernel.Wait();
            }
        };
        Task<Holding> preparing = lab.Agent.PrepareAsync(request);
        await hangs.Task;
        time.Advance(new PassthroughHostOptions().WriteTimeout);
        Holding stuck = await preparing;
        Assert.Equal((HoldingState.Stuck, HoldingReasons.WriteBlocked), (stuck.State, stuck.Reason));
        Assert.Contains($"has not finished resetting {Lab.Igb} (flr) for 30 s", stuck.Message, StringComparison.Ordinal);
        var prepared = new TaskCompletionSource();
        lab.Agent.Changed += () =>
        {
            if (lab.Agent.Holdings.Any(h => h.State == HoldingState.Prepared))
                prepared.TrySetResult();
        };
        kernel.Set();
        await prepared.Task.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task A_group_that_somebody_has_open_is_not_hot_reset()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", d => d with { Reset = ResetMode.Required }, Lab.GpuFunctions);
        int intruder = 0;
        lab.Simulated.Fault = a =>
        {
            if (intruder == 0 && a is { Before: true, IsChange: true } && a.Path.EndsWith("/reset", StringComparison.Ordinal))
                intruder = lab.Simulated.StartProcess("qemu-system-x86", $"/dev/vfio/{request.Devices[0].IommuGroup}");
        };
        Holding holding = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.InUse), (holding.State, holding.Reason));
        Assert.Contains("EBUSY", holding.Message, StringComparison.Ordinal);
        Assert.False(lab.Sim(Lab.Gpu).ResetWhileOpen);
        lab.Simulated.StopProcess(intruder);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
    }

    [Fact]
    public async Task A_journal_of_the_last_format_is_read_and_its_devices_are_reset_when_they_come_back()
    {
        var lab = new Lab();
        string picture = lab.Picture();
        Holding holding = await lab.Prepare("claim-1", Lab.Igb);
        Soil(lab, holding);
        string path = $"{SimulatedHost.StateDirectory}/journal/claim-1.json";
        string[] newer = ["\"handedOutIn\"", "\"used\"", "\"reset\"", "\"oneTimeUse\"", "\"originalResetMethods\""];
        string old = string.Join(
            '\n',
            lab.Simulated.Files.ReadText(path)!
                .Replace("\"formatVersion\": 2", "\"formatVersion\": 1", StringComparison.Ordinal)
                .Split('\n')
                .Where(line => !newer.Any(line.TrimStart().StartsWith))
        );
        old = old.Replace(",\n    }", "\n    }", StringComparison.Ordinal);
        lab.Simulated.PutFile(path, System.Text.RegularExpressions.Regex.Replace(old, @",(\s*[}\]])", "$1"));
        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        Assert.Equal(HoldingState.Prepared, Assert.Single(lab.Agent.Holdings).State);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(holding.Request)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(picture, lab.Picture());
        Assert.False(lab.Sim(Lab.Igb).Dirty);
    }

    [Fact]
    public void A_VFIO_node_that_is_not_there_is_a_sentence()
    {
        HostIoException e = Assert.Throws<HostIoException>(() => VfioDevice.Open(PciAddress.Parse(Lab.Igb), [13], "/nowhere"));
        Assert.Equal(("open /nowhere/vfio: ENOENT (no such file).", Errnos.ENOENT), (e.Message, e.Errno));
        Assert.Throws<HostIoException>(() => new LinuxFileSystem("/nowhere").HotResetTargets(PciAddress.Parse(Lab.Igb), 13));
    }

    private static PassthroughHostOptions Impatient => new() { ResetPatience = TimeSpan.FromMilliseconds(3) };

    /// <summary>A card of two ports in groups of their own, which only a reset of their bus would reset.</summary>
    private static SimulatedHost TwoPorts()
    {
        SimulatedHostBuilder builder = LabHosts
            .Builder()
            .Add(
                new SimulatedFunction
                {
                    Address = "0000:20:04.0",
                    Ids = "8086:2030",
                    Class = 0x060400,
                    HostDriver = "pcieport",
                    ResetMethods = "pm",
                }
            );
        for (int port = 0; port < 2; port++)
        {
            builder.Add(
                new SimulatedFunction
                {
                    Address = $"0000:25:00.{port}",
                    Ids = "8086:10d3",
                    Class = 0x020000,
                    Bridge = "0000:20:04.0",
                    HostDriver = "e1000e",
                    ResetMethods = "bus",
                    Interfaces = [new SimulatedInterface { Name = $"ens9f{port}" }],
                }
            );
        }

        return builder.Build();
    }

    /// <summary>A guest has the devices for a while.</summary>
    internal static void Soil(Lab lab, Holding holding) =>
        lab.Simulated.StopProcess(
            lab.Simulated.StartProcess("qemu-system-x86", [.. holding.Devices.Select(d => d.DeviceNode!).Distinct()])
        );

    private static string[] Writes(Lab lab) =>
        [
            .. lab.Simulated.Log.Select(w =>
                $"{(w.Path.StartsWith('/') ? w.Path[(w.Path.LastIndexOf('/') + 1)..] : w.Path)}={w.Value}{(w.Errno == 0 ? "" : ":" + Errnos.Name(w.Errno))}"
            ),
        ];

    private static string[] Resets(Lab lab) => [.. Writes(lab).Where(w => w.Contains("reset", StringComparison.Ordinal))];
}
