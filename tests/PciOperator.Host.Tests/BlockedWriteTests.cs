using PciOperator.Core;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Host.Tests;

public class BlockedWriteTests
{
    private static readonly TimeSpan Limit = new PassthroughHostOptions().WriteTimeout;

    [Fact]
    public async Task A_blocked_unbind_makes_its_claim_Stuck_holds_up_no_other_and_goes_on_when_it_can()
    {
        var time = new FakeTimeProvider();
        var lab = new Lab(time: time);
        string picture = lab.Picture();
        Holding holding = await lab.Prepare("claim-1", Lab.GpuFunctions);
        AssignmentRequest other = lab.Request("claim-2", Lab.Igb);

        // A guest opens the group between the look and the write.
        int vm = 0;
        lab.Simulated.Fault = a =>
        {
            if (vm == 0 && a.Before && a.Path.EndsWith("/driver/unbind", StringComparison.Ordinal))
                vm = lab.Simulated.StartProcess("qemu-system-x86", holding.Devices[0].DeviceNode!);
        };
        Task<Holding?> releasing = lab.Agent.ReleaseAsync("claim-1");
        await Until(lab, () => lab.Simulated.Functions.Any(f => f.UnbindingFrom is not null));
        time.Advance(Limit);
        Holding? stuck = await releasing;
        Assert.Equal((HoldingState.Stuck, HoldingReasons.WriteBlocked), (stuck!.State, stuck.Reason));
        Assert.Contains("has not finished unbinding 0000:24:00.3 from vfio-pci for 30 s", stuck.Message, StringComparison.Ordinal);
        Assert.Equal([stuck], lab.Agent.Holdings);
        Assert.Equal(stuck, await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(stuck, await lab.Agent.PrepareAsync(holding.Request));

        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(other)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-2"));

        Task released = Holds(lab, holdings => holdings.Count == 0);
        lab.Simulated.StopProcess(vm);
        await released;
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(picture, lab.Picture());
    }

    [Fact]
    public async Task A_prepare_that_hangs_and_is_given_up_undoes_its_work_when_the_kernel_returns()
    {
        var time = new FakeTimeProvider();
        var lab = new Lab(time: time);
        string picture = lab.Picture();
        AssignmentRequest request = lab.Request("claim-1", Lab.GpuFunctions);
        using var kernel = new ManualResetEventSlim();
        var hangs = new TaskCompletionSource();
        lab.Simulated.Fault = a =>
        {
            if (a.Before && a.Path == $"/sys/bus/pci/devices/{Lab.GpuFunctions[1]}/driver/unbind")
            {
                hangs.TrySetResult();
                kernel.Wait();
            }
        };
        Task<Holding> preparing = lab.Agent.PrepareAsync(request);
        await hangs.Task;
        time.Advance(Limit);
        Holding stuck = await preparing;
        Assert.Equal(HoldingReasons.WriteBlocked, stuck.Reason);
        Assert.Contains($"unbinding {Lab.GpuFunctions[1]} from snd_hda_intel", stuck.Message, StringComparison.Ordinal);
        Assert.Equal(HoldingState.Stuck, (await lab.Agent.ReleaseAsync("claim-1"))!.State);
        Task undone = Holds(lab, holdings => holdings.Count == 0);
        kernel.Set();
        await undone;
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(picture, lab.Picture());
    }

    [Fact]
    public async Task A_read_that_hangs_takes_nothing_and_names_itself()
    {
        var time = new FakeTimeProvider();
        var lab = new Lab(time: time);
        AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
        await lab.Agent.RecoverAsync();
        using var kernel = new ManualResetEventSlim();
        var hangs = new TaskCompletionSource();
        lab.Simulated.Fault = a =>
        {
            if (a.Before && a.Path == "/proc/1/mountinfo")
            {
                hangs.TrySetResult();
                kernel.Wait();
            }
        };
        Task<Holding> preparing = lab.Agent.PrepareAsync(request);
        await hangs.Task;
        time.Advance(Limit);
        Assert.Equal((HoldingState.Stuck, HoldingReasons.WriteBlocked), ((await preparing).State, (await preparing).Reason));
        Task prepared = Holds(lab, holdings => holdings.Any(h => h.State == HoldingState.Prepared));
        kernel.Set();
        await prepared;
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
    }

    [Fact]
    public async Task An_agent_that_is_killed_while_the_kernel_holds_its_write_finishes_after_its_restart()
    {
        var lab = new Lab();
        string picture = lab.Picture();
        Holding holding = await lab.Prepare("claim-1", Lab.Igb);
        int vm = 0;
        lab.Simulated.Fault = a =>
        {
            if (vm == 0 && a.Before && a.Path.EndsWith("/driver/unbind", StringComparison.Ordinal))
                vm = lab.Simulated.StartProcess("qemu-system-x86", holding.Devices[0].DeviceNode!);
        };
        Task<Holding?> lost = lab.Agent.ReleaseAsync("claim-1");
        await Until(lab, () => lab.Sim(Lab.Igb).UnbindingFrom is not null);
        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        Holding? waiting = await lab.Agent.ReleaseAsync("claim-1");
        Assert.Equal((HoldingState.Releasing, HoldingReasons.InUse), (waiting!.State, waiting.Reason));
        lab.Simulated.StopProcess(vm);
        await Assert.ThrowsAsync<SimulatedCrashException>(() => lost);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(picture, lab.Picture());
    }

    [Fact]
    public async Task A_number_of_VFs_that_the_kernel_does_not_finish_is_said_and_fences_the_PF()
    {
        var time = new FakeTimeProvider();
        var lab = new Lab(time: time);
        var pf = PciAddress.Parse(Lab.X710);
        AssignmentRequest vf = lab.Request("claim-1", Lab.X710Vf);
        using var kernel = new ManualResetEventSlim();
        var hangs = new TaskCompletionSource();
        lab.Simulated.Fault = a =>
        {
            if (a.Before && a.Path.EndsWith("/sriov_numvfs", StringComparison.Ordinal) && a.IsChange)
            {
                hangs.TrySetResult();
                kernel.Wait();
            }
        };
        Task<SriovOutcome> resizing = lab.Agent.SetVfsAsync(pf, 2);
        await hangs.Task;
        time.Advance(Limit);
        SriovOutcome outcome = await resizing;
        Assert.Equal((false, HoldingReasons.WriteBlocked), (outcome.Applied, outcome.Reason));
        Assert.Contains($"removing the VFs of {Lab.X710}", outcome.Message, StringComparison.Ordinal);
        Assert.Equal(HoldingReasons.Busy, (await lab.Agent.SetVfsAsync(pf, 3)).Reason);
        Assert.Equal(HoldingReasons.Busy, (await lab.Agent.PrepareAsync(vf)).Reason);
        var done = new TaskCompletionSource();
        lab.Agent.Changed += () => done.TrySetResult();
        kernel.Set();
        await done.Task.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Equal(2, lab.Sim(Lab.X710).Sriov!.NumVfs);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(lab.Request("claim-1", Lab.X710Vf))).State);
    }

    /// <summary>Done when the agent's holdings are so.</summary>
    private static Task Holds(Lab lab, Func<IReadOnlyList<Holding>, bool> condition)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lab.Agent.Changed += () =>
        {
            if (condition(lab.Agent.Holdings))
                done.TrySetResult();
        };
        return done.Task.WaitAsync(TimeSpan.FromSeconds(30));
    }

    /// <summary>Waits until the simulated kernel, on another thread, has come so far.</summary>
    private static async Task Until(Lab lab, Func<bool> condition)
    {
        var limit = System.Diagnostics.Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(limit.Elapsed < TimeSpan.FromSeconds(30), lab.Picture());
            await Task.Yield();
        }
    }
}
