using PciOperator.Core;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Host.Tests;

public class SriovTests
{
    private static readonly PciAddress Igb = PciAddress.Parse(Lab.Igb);
    private static readonly PciAddress X710 = PciAddress.Parse(Lab.X710);

    [Fact]
    public async Task VFs_are_made_and_their_number_changes_through_0()
    {
        var lab = new Lab();
        SriovOutcome made = await lab.Agent.SetVfsAsync(Igb, 4);
        Assert.Equal((true, true, 4), (made.Applied, made.Changed, made.NumVfs));
        Assert.Equal(
            ["0000:21:10.0", "0000:21:10.2", "0000:21:10.4", "0000:21:10.6"],
            lab.Agent.Scan().Functions.Where(f => f.Function.ParentAddress == Igb).Select(f => f.Address.ToString())
        );
        SriovOutcome fewer = await lab.Agent.SetVfsAsync(Igb, 2);
        Assert.Equal((true, true, 2), (fewer.Applied, fewer.Changed, fewer.NumVfs));
        Assert.Equal(
            ["4", "0", "2"],
            lab.Simulated.Log.Where(w => w.Path.EndsWith("sriov_numvfs", StringComparison.Ordinal)).Select(w => w.Value)
        );
        Assert.Equal(
            new SriovOutcome
            {
                Address = Igb,
                Applied = true,
                NumVfs = 2,
            },
            await lab.Agent.SetVfsAsync(Igb, 2)
        );
        Assert.True((await lab.Agent.SetVfsAsync(Igb, 0)).Applied);
    }

    [Fact]
    public async Task VFs_can_be_left_without_their_host_driver()
    {
        var lab = new Lab();
        Assert.True((await lab.Agent.SetVfsAsync(Igb, 1, autoprobe: false)).Applied);
        Assert.Null(lab.Seen("0000:21:10.0").Driver);
        Holding holding = await lab.Prepare("claim-1", "0000:21:10.0");
        Assert.Equal((HoldingState.Prepared, null), (holding.State, holding.Devices[0].OriginalDriver));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Null(lab.Seen("0000:21:10.0").Driver);
    }

    [Theory]
    [InlineData(Lab.Igb, 8, HoldingReasons.SriovFailed, "0 to 7 VFs")]
    [InlineData(Lab.Igb, -1, HoldingReasons.SriovFailed, "0 to 7 VFs")]
    [InlineData(Lab.Nvme, 1, HoldingReasons.SriovFailed, "no SR-IOV")]
    [InlineData("0000:aa:00.0", 1, HoldingReasons.DeviceGone, "no device")]
    public async Task An_impossible_number_is_refused_with_a_sentence(string pf, int number, string reason, string says)
    {
        SriovOutcome outcome = await new Lab().Agent.SetVfsAsync(PciAddress.Parse(pf), number);
        Assert.Equal((false, reason), (outcome.Applied, outcome.Reason));
        Assert.Contains(says, outcome.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(Errnos.ENOSPC, "enable SR-IOV in the BIOS")]
    [InlineData(Errnos.ENOMEM, "Above 4G Decoding")]
    [InlineData(Errnos.ETIMEDOUT, "power-cycle")]
    [InlineData(Errnos.EINVAL, "firmware may have SR-IOV off")]
    [InlineData(Errnos.EBUSY, "through 0")]
    [InlineData(Errnos.ENOENT, "bind the PF to its own driver")]
    [InlineData(Errnos.ERANGE, "sriov_totalvfs")]
    [InlineData(Errnos.ENODEV, "reseat")]
    [InlineData(Errnos.EIO, "update the firmware")]
    [InlineData(Errnos.EPERM, "assigned to a guest")]
    [InlineData(Errnos.EAGAIN, "tried again")]
    public async Task The_kernels_error_becomes_a_sentence(int errno, string says)
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.X710, f => f.Sriov!.Errno = errno);
        SriovOutcome outcome = await lab.Agent.SetVfsAsync(X710, 2);
        Assert.Equal((false, true, 0, HoldingReasons.SriovFailed), (outcome.Applied, outcome.Changed, outcome.NumVfs, outcome.Reason));
        Assert.Contains(Errnos.Name(errno), outcome.Message, StringComparison.Ordinal);
        Assert.Contains(says, outcome.Message, StringComparison.Ordinal);

        // What was begun is finished by the next attempt.
        lab.Simulated.Change(Lab.X710, f => f.Sriov!.Errno = 0);
        Assert.Equal((true, 2), (await lab.Agent.SetVfsAsync(X710, 2)) is var done ? (done.Applied, done.NumVfs) : default);
    }

    [Theory]
    [InlineData(null, "on no driver")]
    [InlineData("vfio-pci", "on vfio-pci")]
    public async Task A_PF_without_its_own_driver_can_have_no_VFs(string? driver, string says)
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Igb, f => f.Driver = driver);
        SriovOutcome outcome = await lab.Agent.SetVfsAsync(Igb, 2);
        Assert.Equal((false, false, HoldingReasons.SriovFailed), (outcome.Applied, outcome.Changed, outcome.Reason));
        Assert.Contains(says, outcome.Message, StringComparison.Ordinal);
        Assert.True((await lab.Agent.SetVfsAsync(Igb, 0)).Applied);
        Assert.Empty(lab.Simulated.Log);
    }

    [Fact]
    public async Task A_card_that_makes_fewer_is_named_with_what_it_made()
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Igb, f => f.Sriov!.Most = 3);
        SriovOutcome outcome = await lab.Agent.SetVfsAsync(Igb, 4);
        Assert.Equal((false, true, 3, HoldingReasons.SriovFailed), (outcome.Applied, outcome.Changed, outcome.NumVfs, outcome.Reason));
        Assert.Contains("4 VFs of 0000:21:00.0 were asked for, and its driver made 3", outcome.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task VFs_that_are_counted_before_they_are_there_are_waited_for_within_bounds()
    {
        var time = new FakeTimeProvider();
        var lab = new Lab(time: time);
        lab.Simulated.Change(Lab.Igb, f => f.Sriov!.Slow = true);
        Task<SriovOutcome> making = lab.Agent.SetVfsAsync(Igb, 3);
        int looks = 0;
        while (await IsWaiting(making))
        {
            looks++;
            time.Advance(TimeSpan.FromMilliseconds(50));
        }

        SriovOutcome late = await making;
        Assert.Equal(200, looks);
        Assert.Equal((false, 3, HoldingReasons.SriovFailed), (late.Applied, late.NumVfs, late.Reason));
        Assert.Contains("counts 3 VFs, and only 0 of them are there after 10 s", late.Message, StringComparison.Ordinal);

        // The next attempt writes nothing and waits on.
        int writes = lab.Simulated.Log.Count;
        making = lab.Agent.SetVfsAsync(Igb, 3);
        Assert.True(await IsWaiting(making));
        lab.Simulated.ShowVfs(Lab.Igb);
        time.Advance(TimeSpan.FromMilliseconds(50));
        Assert.False(await IsWaiting(making));
        Assert.True((await making).Applied);
        Assert.Equal(writes, lab.Simulated.Log.Count);

        // The clock moves only while the work waits for it.
        async Task<bool> IsWaiting(Task work) => await Task.WhenAny(work, time.WaitForTimerAsync(TimeSpan.FromMilliseconds(50))) != work;
    }

    [Fact]
    public async Task Autoprobe_alone_can_change_while_VFs_are_held()
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.X710Vf);
        SriovOutcome outcome = await lab.Agent.SetVfsAsync(X710, 4, autoprobe: false);
        Assert.Equal((true, true, 4), (outcome.Applied, outcome.Changed, outcome.NumVfs));
        Assert.False(lab.Seen(Lab.X710).VfsAutoprobe);
        Assert.Equal("vfio-pci", lab.Sim(Lab.X710Vf).Driver);

        // Also then a VF that had its host driver gets it back.
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal("iavf", lab.Sim(Lab.X710Vf).Driver);
    }

    [Fact]
    public async Task The_agent_is_killed_at_every_change_of_the_number_and_the_next_one_finishes()
    {
        int points = 0;
        foreach (bool before in new[] { true, false })
        {
            foreach (bool reboot in new[] { false, true })
            {
                for (int index = 0; ; index++)
                {
                    var lab = new Lab();
                    await lab.Agent.RecoverAsync();
                    bool hit = false;
                    lab.Simulated.Fault = a =>
                    {
                        if (a.IsChange && a.Before == before && a.Index == index)
                        {
                            hit = true;
                            lab.Simulated.CrashAgent();
                        }
                    };
                    try
                    {
                        await lab.Agent.SetVfsAsync(X710, 2, autoprobe: false);
                    }
                    catch (SimulatedCrashException)
                    {
                        Assert.True(hit);
                    }

                    lab.Simulated.Fault = null;
                    if (!hit)
                        break;
                    points++;
                    if (reboot)
                        lab.Reboot();
                    else
                        lab.RestartAgent();
                    SriovOutcome outcome = await lab.Agent.SetVfsAsync(X710, 2, autoprobe: false);
                    Assert.Equal((true, 2), (outcome.Applied, outcome.NumVfs));
                    Assert.Equal([null, null], lab.Simulated.Functions.Where(f => f.PhysFn == Lab.X710).Select(f => f.Driver));
                    Assert.Empty(lab.Agent.Holdings);
                }
            }
        }

        Assert.Equal(12, points);
    }

    [Fact]
    public async Task While_the_kernel_changes_VFs_a_look_at_the_host_does_not_wait_and_shows_all_or_none()
    {
        var lab = new Lab();
        await lab.Agent.RecoverAsync();
        Assert.Equal(4, Vfs(lab));
        int user = 0;
        lab.Simulated.Fault = a =>
        {
            // After the guards have looked: somebody opens a VF.
            if (a is { Before: true, Value: "0" } && a.Path.EndsWith("sriov_numvfs", StringComparison.Ordinal))
            {
                lab.Simulated.Change(Lab.X710Vf, f => f.Driver = "vfio-pci");
                user = lab.Simulated.StartProcess("qemu", $"/dev/vfio/{lab.Sim(Lab.X710Vf).Group}");
            }
        };
        Task<SriovOutcome> resizing = lab.Agent.SetVfsAsync(X710, 2);
        while (lab.Sim(Lab.X710Vf).UnbindingFrom is null)
            await Task.Yield();
        Assert.Equal((4, 4), (Vfs(lab), lab.Seen(Lab.X710).NumVfs));
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.Nvme)).State);
        lab.Simulated.StopProcess(user);
        Assert.True((await resizing).Applied);
        Assert.Equal((2, 2), (Vfs(lab), lab.Seen(Lab.X710).NumVfs));

        static int Vfs(Lab lab) => lab.Agent.Scan().Functions.Count(f => f.Function.ParentAddress == X710);
    }

    [Fact]
    public async Task The_claims_that_hold_the_PF_or_its_VFs_are_named()
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.X710Vf);
        SriovOutcome outcome = await lab.Agent.SetVfsAsync(X710, 8);
        Assert.Equal((false, HoldingReasons.OwnedByOther), (outcome.Applied, outcome.Reason));
        Assert.Equal(["claim-1"], outcome.BlockedBy);
        Assert.Contains("lab/claim-1", outcome.Message, StringComparison.Ordinal);

        lab.RestartAgent();
        Assert.Equal(["claim-1"], (await lab.Agent.SetVfsAsync(X710, 8)).BlockedBy);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.True((await lab.Agent.SetVfsAsync(X710, 8)).Applied);

        await lab.Prepare("claim-2", Lab.Igb);
        Assert.Equal(["claim-2"], (await lab.Agent.SetVfsAsync(Igb, 1)).BlockedBy);
        Assert.True((await lab.Agent.SetVfsAsync(Igb, 0)).Applied);
    }

    [Fact]
    public async Task VFs_that_the_host_uses_stay()
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.X710Vf, f => f.Interfaces[0].Address = true);
        SriovOutcome outcome = await lab.Agent.SetVfsAsync(X710, 0);
        Assert.Equal((false, HoldingReasons.GuardRefused, 4), (outcome.Applied, outcome.Reason, outcome.NumVfs));
        Assert.Empty(lab.Simulated.Log);
    }

    [Fact]
    public async Task A_claim_for_a_VF_waits_for_a_change_of_its_PF()
    {
        var lab = new Lab();
        AssignmentRequest vf = lab.Request("claim-1", Lab.X710Vf) with { };
        vf = vf with { Devices = [vf.Devices[0] with { IommuGroup = null }] };
        await lab.Agent.RecoverAsync();
        using var kernel = new ManualResetEventSlim();
        var begun = new TaskCompletionSource();
        lab.Simulated.Fault = a =>
        {
            if (a is { Before: true, Value: "2" } && a.Path.EndsWith("sriov_numvfs", StringComparison.Ordinal))
            {
                begun.TrySetResult();
                kernel.Wait();
            }
        };
        Task<SriovOutcome> resizing = lab.Agent.SetVfsAsync(X710, 2);
        await begun.Task;
        Assert.Null(lab.Simulated.Find(Lab.X710Vf));
        Task<Holding> preparing = lab.Agent.PrepareAsync(vf);
        kernel.Set();
        Assert.True((await resizing).Applied);
        Assert.Equal(HoldingState.Prepared, (await preparing).State);
    }
}
