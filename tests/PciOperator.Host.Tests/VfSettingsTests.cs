using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>
/// What a PF keeps for its VFs: what a claim's owner sets does not reach the next owner, and what an administrator set stays.
/// </summary>
public class VfSettingsTests
{
    private static readonly VfSettings Tenants = new("52:54:00:aa:bb:cc", 100, 3, "802.1ad", true, false, 10, 1000, 1);
    private static readonly PciAddress X710 = PciAddress.Parse(Lab.X710);

    [Fact]
    public async Task What_an_owner_set_is_put_back_before_the_VFs_own_driver_returns()
    {
        var lab = new Lab();
        VfSettings before = Settings(lab);
        Assert.NotEqual(VfSettings.NoMac, before.Mac);
        await lab.Prepare("claim-1", Lab.X710Vf);
        lab.Simulated.Files.WriteVfSettings("ens4", 1, Tenants);
        Assert.Equal(Tenants, Settings(lab));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(before, Settings(lab));
        List<string> writes = [.. lab.Simulated.Log.Select(w => w.Path)];
        Assert.True(writes.LastIndexOf("rtnetlink/ens4/vf1") < writes.LastIndexOf("/sys/bus/pci/drivers_probe"));
    }

    [Fact]
    public async Task What_an_administrator_set_before_the_claim_stays()
    {
        var lab = new Lab();
        VfSettings mine = VfSettings.Default with { Mac = "52:54:00:00:00:01", Vlan = 7, MaxTxRate = 500 };
        lab.Simulated.Files.WriteVfSettings("ens4", 1, mine);
        await lab.Prepare("claim-1", Lab.X710Vf);
        Assert.Equal(mine, Settings(lab));
        lab.Simulated.Files.WriteVfSettings("ens4", 1, Tenants);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(mine, Settings(lab));
    }

    [Fact]
    public async Task A_VF_that_never_had_a_MAC_has_none_again()
    {
        var lab = new Lab();
        Assert.True((await lab.Agent.SetVfsAsync(X710, 2, autoprobe: false)).Applied);
        Assert.Equal(VfSettings.Default, Settings(lab));
        await lab.Prepare("claim-1", Lab.X710Vf);
        lab.Simulated.Files.WriteVfSettings("ens4", 1, Tenants);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(VfSettings.Default, Settings(lab));
    }

    [Fact]
    public async Task A_VF_that_its_administrator_bound_is_put_back_too()
    {
        var lab = new Lab();
        await lab.Agent.SetVfsAsync(X710, 2, autoprobe: false);
        lab.Simulated.Files.LoadModule("vfio-pci");
        lab.Simulated.Files.Write($"/sys/bus/pci/devices/{Lab.X710Vf}/driver_override", "vfio-pci");
        lab.Simulated.Files.Write("/sys/bus/pci/drivers_probe", Lab.X710Vf);
        Holding holding = await lab.Agent.PrepareAsync(lab.Request("claim-1", d => d with { Managed = false }, Lab.X710Vf));
        Assert.Equal(HoldingState.Prepared, holding.State);
        lab.Simulated.Files.WriteVfSettings("ens4", 1, Tenants);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(VfSettings.Default, Settings(lab));
        Assert.Equal("vfio-pci", lab.Sim(Lab.X710Vf).Driver);
    }

    [Fact]
    public async Task The_PFs_interface_is_found_by_its_device_whatever_it_is_called()
    {
        var lab = new Lab();
        VfSettings before = Settings(lab);
        await lab.Prepare("claim-1", Lab.X710Vf);
        lab.Simulated.Files.WriteVfSettings("ens4", 1, Tenants);
        lab.Simulated.Change(Lab.X710, f => f.Interfaces[0].Name = "uplink0");
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(before, Settings(lab));
    }

    [Fact]
    public async Task Settings_are_remembered_across_a_restart_of_the_agent()
    {
        var lab = new Lab();
        VfSettings before = Settings(lab);
        AssignmentRequest request = lab.Request("claim-1", Lab.X710Vf);
        await lab.Agent.PrepareAsync(request);
        lab.Simulated.Files.WriteVfSettings("ens4", 1, Tenants);
        lab.RestartAgent();
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        Assert.Equal(Tenants, Settings(lab));
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(before, Settings(lab));
    }

    [Fact]
    public async Task The_agent_is_killed_at_every_change_of_a_release_and_the_next_one_finishes()
    {
        int points = 0;
        foreach (bool before in new[] { true, false })
        {
            for (int index = 0; ; index++)
            {
                var lab = new Lab();
                VfSettings original = Settings(lab);
                await lab.Prepare("claim-1", Lab.X710Vf);
                lab.Simulated.Files.WriteVfSettings("ens4", 1, Tenants);
                int seen = -1;
                bool hit = false;
                lab.Simulated.Fault = a =>
                {
                    if (a.IsChange && a.Before == before && ++seen == index)
                    {
                        hit = true;
                        lab.Simulated.CrashAgent();
                    }
                };
                try
                {
                    await lab.Agent.ReleaseAsync("claim-1");
                }
                catch (SimulatedCrashException)
                {
                    Assert.True(hit);
                }

                lab.Simulated.Fault = null;
                if (!hit)
                    break;
                points++;
                lab.RestartAgent();
                Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
                Assert.Equal(original, Settings(lab));
                Assert.Equal("iavf", lab.Sim(Lab.X710Vf).Driver);
            }
        }

        Assert.True(points >= 12, $"{points}");
    }

    [Fact]
    public async Task A_drivers_moment_of_being_busy_is_waited_for()
    {
        var lab = new Lab();
        VfSettings before = Settings(lab);
        await lab.Prepare("claim-1", Lab.X710Vf);
        lab.Simulated.Files.WriteVfSettings("ens4", 1, Tenants);
        int times = 0;
        lab.Simulated.Fault = a =>
        {
            if (a is { Before: true, IsChange: true } && a.Path.StartsWith("rtnetlink/", StringComparison.Ordinal) && times++ < 3)
                throw new HostIoException("set VF settings of", "ens4", Errnos.EAGAIN);
        };
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(4, times);
        Assert.Equal(before, Settings(lab));
    }

    [Theory]
    [InlineData("vlan", "vlan is 100 qos 3 proto 802.1ad instead of 0")]
    [InlineData("mac", "mac is 52:54:00:aa:bb:cc instead of 6a:")]
    [InlineData("trust", "trust is on instead of off")]
    public async Task A_VF_that_keeps_what_its_owner_left_goes_to_nobody_until_it_is_made_again(string refused, string says)
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.X710Vf);
        lab.Simulated.Files.WriteVfSettings("ens4", 1, Tenants);
        lab.Simulated.Change(Lab.X710, f => f.Sriov!.RefusedSettings.Add(refused));

        // The claim itself leaves.
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal("iavf", lab.Sim(Lab.X710Vf).Driver);
        HostFunction vf = lab.Seen(Lab.X710Vf);
        Assert.Equal("NotClean", vf.WithheldBy);
        Assert.Contains("VF 1 of 0000:82:00.0 keeps what its last owner left", vf.Withheld, StringComparison.Ordinal);
        Assert.Contains(says, vf.Withheld, StringComparison.Ordinal);
        Assert.Contains("EOPNOTSUPP", vf.Withheld, StringComparison.Ordinal);
        lab.RestartAgent();
        Assert.Equal(
            (HoldingState.Rejected, HoldingReasons.Withheld),
            (await lab.Prepare("claim-2", Lab.X710Vf)) is var next ? (next.State, next.Reason) : default
        );

        Assert.True((await lab.Agent.SetVfsAsync(X710, 3)).Applied);
        Assert.Null(lab.Seen(Lab.X710Vf).Withheld);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", Lab.X710Vf)).State);
    }

    [Fact]
    public async Task A_VF_whose_PF_has_gone_to_another_network_namespace_is_named()
    {
        var lab = new Lab();
        await lab.Prepare("claim-1", Lab.X710Vf);
        lab.Simulated.Files.WriteVfSettings("ens4", 1, Tenants);
        lab.Simulated.Change(Lab.X710, f => f.Interfaces[0].InPod = true);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Contains("no network interface of 0000:82:00.0 shows its VF 1", lab.Seen(Lab.X710Vf).Withheld, StringComparison.Ordinal);
        lab.Reboot();
        lab.Simulated.Files.Write($"/sys/bus/pci/devices/{Lab.X710}/sriov_numvfs", "4");
        Assert.Null(lab.Seen(Lab.X710Vf).Withheld);
    }

    [Fact]
    public async Task The_VFs_of_a_PF_that_was_claimed_are_as_they_were()
    {
        var lab = new Lab();
        VfSettings mine = VfSettings.Default with { Mac = "52:54:00:00:00:01", Vlan = 7, Trust = true };
        lab.Simulated.Files.WriteVfSettings("ens4", 1, mine);
        lab.Simulated.Files.Write("/sys/bus/pci/drivers/iavf/unbind", "0000:82:02.2");
        string picture = lab.Picture();
        await lab.Prepare("claim-1", Lab.X710);
        Assert.DoesNotContain(lab.Simulated.Functions, f => f.PhysFn == Lab.X710);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(mine, Settings(lab));
        Assert.Equal(picture, lab.Picture());
    }

    [Fact]
    public async Task A_PF_that_is_claimed_after_a_reboot_gets_its_VFs_of_before_back()
    {
        var lab = new Lab();
        lab.Simulated.Files.WriteVfSettings("ens4", 1, VfSettings.Default with { Mac = "52:54:00:00:00:01", Vlan = 7 });
        AssignmentRequest request = lab.Request("claim-1", Lab.X710);
        await lab.Agent.PrepareAsync(request);
        lab.Reboot();
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal((4, 7), (lab.Sim(Lab.X710).Sriov!.NumVfs, Settings(lab).Vlan));
    }

    private static VfSettings Settings(Lab lab) => lab.Sim(Lab.X710Vf).VfSettings!;
}
