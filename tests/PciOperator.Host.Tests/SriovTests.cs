using PciOperator.Core;

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
        Assert.Equal(["0000:21:10.0", "0000:21:10.2", "0000:21:10.4", "0000:21:10.6"],
            lab.Agent.Scan().Functions.Where(f => f.Function.ParentAddress == Igb).Select(f => f.Address.ToString()));
        SriovOutcome fewer = await lab.Agent.SetVfsAsync(Igb, 2);
        Assert.Equal((true, true, 2), (fewer.Applied, fewer.Changed, fewer.NumVfs));
        Assert.Equal(["4", "0", "2"], lab.Simulated.Log.Where(w => w.Path.EndsWith("sriov_numvfs", StringComparison.Ordinal)).Select(w => w.Value));
        Assert.Equal(new SriovOutcome { Address = Igb, Applied = true, NumVfs = 2 }, await lab.Agent.SetVfsAsync(Igb, 2));
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
    [InlineData(Errnos.ETIMEDOUT, "power-cycle")]
    [InlineData(Errnos.EINVAL, "dmesg")]
    [InlineData(Errnos.EBUSY, "through 0")]
    public async Task The_kernels_error_becomes_a_sentence(int errno, string says)
    {
        var lab = new Lab();
        lab.Simulated.Fault = a =>
        {
            if (a.IsChange && a.Path.EndsWith("sriov_numvfs", StringComparison.Ordinal))
                throw new HostIoException("write '2' to", a.Path, errno);
        };
        SriovOutcome outcome = await lab.Agent.SetVfsAsync(Igb, 2);
        Assert.Equal((false, HoldingReasons.SriovFailed), (outcome.Applied, outcome.Reason));
        Assert.Contains(says, outcome.Message, StringComparison.Ordinal);
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
