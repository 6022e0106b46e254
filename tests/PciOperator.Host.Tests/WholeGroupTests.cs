using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>An IOMMU group goes as a whole; VFs that are in one with their PF end when it is taken.</summary>
public class WholeGroupTests
{
    private const string SecondPf = "0000:82:00.1";
    private static readonly string[] Vfs = ["0000:82:02.0", "0000:82:02.1", "0000:82:02.2", "0000:82:02.3"];

    [Fact]
    public async Task A_PF_in_one_group_with_its_VFs_is_bound_when_they_are_gone_and_gets_them_back()
    {
        var lab = new Lab(LabHosts.CreateWithoutAcs());
        Assert.All(Vfs.Append(Lab.X710), a => Assert.Equal(77, lab.Seen(a).Function.IommuGroup));
        string before = lab.Picture();
        Holding holding = await lab.Prepare("claim-1", Lab.X710);
        Assert.Equal((HoldingState.Prepared, null), (holding.State, holding.Message));
        Assert.Equal("vfio-pci", lab.Sim(Lab.X710).Driver);
        Assert.All(Vfs, vf => Assert.Null(lab.Simulated.Find(vf)));
        List<SysfsWrite> writes = [.. lab.Simulated.Log];
        Assert.Equal(("0", true), (writes[0].Value, writes[0].Path.EndsWith("sriov_numvfs", StringComparison.Ordinal)));
        Assert.Equal(holding, await lab.Prepare("claim-1", Lab.X710));

        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(before, lab.Picture());
        Assert.All(Vfs, vf => Assert.Equal((77, "iavf"), (lab.Sim(vf).Group!.Value, lab.Sim(vf).Driver)));
    }

    [Fact]
    public async Task Such_a_PF_is_taken_where_it_has_no_VFs_now_too()
    {
        var lab = new Lab(LabHosts.CreateWithoutAcs());
        Assert.True((await lab.Agent.SetVfsAsync(PciAddress.Parse(Lab.X710), 0)).Applied);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.X710)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Null(lab.Simulated.Find(Vfs[0]));
    }

    [Fact]
    public async Task A_VF_of_it_is_not_taken_by_itself_nor_all_of_them()
    {
        var lab = new Lab(LabHosts.CreateWithoutAcs());
        foreach (
            string[] some in (string[][])
                [
                    [Vfs[0]],
                    Vfs,
                ]
        )
        {
            Holding holding = await lab.Prepare("claim-1", some);
            Assert.Equal((HoldingState.Rejected, HoldingReasons.DriftDetected), (holding.State, holding.Reason));
            Assert.Contains($"also holds {Lab.X710}", holding.Message, StringComparison.Ordinal);
        }

        Assert.Empty(lab.Simulated.Log);
    }

    [Fact]
    public async Task A_VF_that_the_host_uses_keeps_its_PF()
    {
        var lab = new Lab(LabHosts.CreateWithoutAcs());
        lab.Simulated.Change(Vfs[2], f => f.Interfaces[0].Address6 = true);
        Assert.StartsWith($"{Vfs[2]} ", lab.Seen(Lab.X710).GuardReason, StringComparison.Ordinal);
        Assert.Equal(
            (HoldingState.Rejected, HoldingReasons.GuardRefused),
            (await lab.Prepare("claim-1", Lab.X710)) is var holding ? (holding.State, holding.Reason) : default
        );
        Assert.Empty(lab.Simulated.Log);
    }

    [Fact]
    public async Task Two_PFs_of_a_card_in_one_group_go_together_each_without_its_VFs()
    {
        var lab = new Lab(LabHosts.CreateWithoutAcs());
        lab.Simulated.Add(SecondPfOf(lab, 77));
        Assert.True((await lab.Agent.SetVfsAsync(PciAddress.Parse(SecondPf), 2)).Applied);
        string before = lab.Picture();
        Holding one = await lab.Prepare("claim-1", Lab.X710);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.DriftDetected), (one.State, one.Reason));
        Assert.Contains($"also holds {SecondPf}", one.Message, StringComparison.Ordinal);
        Assert.Equal(before, lab.Picture());

        Holding both = await lab.Prepare("claim-2", Lab.X710, SecondPf);
        Assert.Equal((HoldingState.Prepared, null), (both.State, both.Message));
        Assert.DoesNotContain(lab.Simulated.Functions, f => f.PhysFn is not null);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-2"));
        Assert.Equal(before, lab.Picture());
    }

    [Fact]
    public async Task VFs_in_one_group_without_their_PF_go_together()
    {
        var lab = new Lab(LabHosts.Create());
        lab.Simulated.Change(Lab.X710, f => f.Sriov!.VfGroup = 78);
        foreach (int count in (int[])[0, 4])
            Assert.True((await lab.Agent.SetVfsAsync(PciAddress.Parse(Lab.X710), count)).Applied);
        Assert.Equal(
            (HoldingState.Rejected, HoldingReasons.DriftDetected),
            (await lab.Prepare("claim-1", Vfs[0])) is var one ? (one.State, one.Reason) : default
        );
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", Vfs)).State);
        Assert.Equal(
            (HoldingState.Rejected, HoldingReasons.OwnedByOther),
            (await lab.Prepare("claim-3", Lab.X710)) is var pf ? (pf.State, pf.Reason) : default
        );
        Assert.Null(await lab.Agent.ReleaseAsync("claim-2"));
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-3", Lab.X710)).State);
    }

    [Fact]
    public async Task What_is_in_a_group_with_the_VF_of_a_PF_that_is_taken_too_needs_no_more()
    {
        // The second port is in a group with a VF of the first.
        var lab = new Lab(LabHosts.CreateWithoutAcs());
        lab.Simulated.Add(SecondPfOf(lab, 79));
        lab.Simulated.Change(Vfs[3], f => f.Group = 79);
        Assert.Equal(
            (HoldingState.Rejected, HoldingReasons.DriftDetected),
            (await lab.Prepare("claim-1", SecondPf)) is var one ? (one.State, one.Reason) : default
        );
        Holding both = await lab.Prepare("claim-2", Lab.X710, SecondPf);
        Assert.Equal((HoldingState.Prepared, null), (both.State, both.Message));
    }

    [Fact]
    public async Task VFs_of_an_administrators_PF_are_the_administrators_to_remove()
    {
        var lab = new Lab(LabHosts.CreateWithoutAcs());
        AssignmentRequest request = lab.Request("claim-1", d => d with { Managed = false, Reset = ResetMode.Skip }, Lab.X710);
        lab.Simulated.Change(Lab.X710, f => f.Driver = "vfio-pci");
        Holding holding = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.GroupNotViable), (holding.State, holding.Reason));
        Assert.Contains($"echo 0 > /sys/bus/pci/devices/{Lab.X710}/sriov_numvfs", holding.Message, StringComparison.Ordinal);
        Assert.NotNull(lab.Simulated.Find(Vfs[0]));
    }

    [Fact]
    public async Task A_VF_that_comes_into_the_group_of_a_claimed_PF_is_said_also_by_an_agent_that_starts_then()
    {
        var lab = new Lab(LabHosts.CreateWithoutAcs());
        AssignmentRequest request = lab.Request("claim-1", Lab.X710);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = Vfs[0],
                Ids = "8086:154c",
                Class = 0x020000,
                Bridge = lab.Sim(Lab.X710).Bridge,
                Group = 77,
                PhysFn = Lab.X710,
                HostDriver = "iavf",
            }
        );
        lab.Agent.Scan();
        Assert.Equal(
            (HoldingState.Stuck, HoldingReasons.DriftDetected),
            lab.Agent.Holdings.Single() is var seen ? (seen.State, seen.Reason) : default
        );
        lab.RestartAgent();
        await lab.Agent.RecoverAsync();
        Assert.Equal(
            (HoldingState.Stuck, HoldingReasons.DriftDetected),
            (await lab.Agent.PrepareAsync(request)) is var again ? (again.State, again.Reason) : default
        );
        lab.Simulated.Remove(Vfs[0]);
        lab.Agent.Scan(fresh: true);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
    }

    [Fact]
    public async Task A_claimed_PF_that_was_plugged_in_again_with_VFs_is_bound_again_without_them()
    {
        var lab = new Lab(LabHosts.CreateWithoutAcs());
        AssignmentRequest request = lab.Request("claim-1", Lab.X710);
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        SimulatedFunction card = lab.Sim(Lab.X710);
        lab.Simulated.Remove(Lab.X710);
        lab.Agent.Scan(fresh: true);
        (card.Driver, card.Override) = (null, null);
        lab.Simulated.Add(card);
        lab.Simulated.Files.Write($"/sys/bus/pci/devices/{Lab.X710}/sriov_numvfs", "2");
        Assert.NotNull(lab.Simulated.Find(Vfs[1]));
        lab.Agent.Scan(fresh: true);
        Holding again = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Prepared, null), (again.State, again.Message));
        Assert.Null(lab.Simulated.Find(Vfs[1]));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(2, lab.Sim(Lab.X710).Sriov!.NumVfs);
    }

    private static SimulatedFunction SecondPfOf(Lab lab, int group) =>
        new()
        {
            Address = SecondPf,
            Ids = "8086:1572",
            Class = 0x020000,
            Bridge = lab.Sim(Lab.X710).Bridge,
            Group = group,
            HostDriver = "i40e",
            Sriov = new SimulatedSriov
            {
                Total = 64,
                VfProduct = "154c",
                VfDriver = "iavf",
                Offset = 31,
                VfGroup = group,
            },
            Interfaces = [new SimulatedInterface { Name = "ens4b" }],
        };
}
