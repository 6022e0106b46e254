using PciOperator.Host;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Kubelet.Tests;

/// <summary>Agent, kubelet and host end at any point, and what is handed out is whole or not there.</summary>
public sealed class RestartTests
{
    [Fact]
    public async Task A_restarted_kubelet_finds_the_plugin_and_asks_again()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Gpu);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        IReadOnlyList<string> written = lab.Written;
        await lab.Kubelet.StopAsync();
        lab.Kubelet.Start();
        await lab.Kubelet.WaitForPluginAsync(KubeletLab.Driver);
        lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim));
        Assert.Equal(written, lab.Written);
        Assert.Equal(2, lab.Kubelet.Calls.Count);
    }

    [Fact]
    public async Task A_restarted_agent_goes_on_with_what_was_handed_out()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Gpu);
        PreparedAnswer before = await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        lab.Simulated.RemoveFile("/var/run/cdi/pcioperator.io_claim_5f1c-vm.json");
        lab.Simulated.PutFile("/var/run/cdi/pcioperator.io_claim_9999-old.json", "{}");
        lab.Simulated.PutFile("/var/run/cdi/pcioperator.io_metadata_9999-old_gpu.json.7.tmp", "{");
        lab.Simulated.PutFile("/k/plugins/pcioperator.io/dra-device-metadata/lab_old/gpu/metadata.json", "{}");
        lab.Simulated.PutFile("/var/run/cdi/other.example.com_claim_1.json", "{}");
        await lab.RestartAgentAsync();
        Assert.Contains("u-vm", lab.Plugin.Delivered);
        Assert.DoesNotContain(lab.Written, p => p.Contains("old", StringComparison.Ordinal));
        Assert.Contains("/var/run/cdi/other.example.com_claim_1.json", lab.Written);
        lab.Simulated.RemoveFile("/var/run/cdi/other.example.com_claim_1.json");
        lab.Container(before);
        Assert.Equal("", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, claim));
        Assert.Empty(lab.Written);
    }

    [Fact]
    public async Task After_a_boot_nothing_of_the_one_before_is_left_and_the_kubelet_prepares_again()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Gpu);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        int before = lab.Simulated.Find(KubeletLab.Gpu[0])!.Group!.Value;
        await lab.Kubelet.StopAsync();
        lab.Kubelet.Start();
        await lab.RestartAgentAsync(reboot: true);
        Assert.Empty(lab.Written);
        Assert.Empty(lab.Plugin.Delivered);
        foreach (string function in KubeletLab.Gpu)
            lab.Simulated.Change(function, f => f.Group = before + 100);
        await lab.BindAsync("vm", KubeletLab.Gpu);
        ContainerDouble container = lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim));
        Assert.Contains($"/dev/vfio/{before + 100}", container.Nodes);
        Assert.DoesNotContain($"/dev/vfio/{before}", container.Nodes);
    }

    [Fact]
    public async Task A_checkpoint_that_is_torn_hands_out_nothing_and_lies_aside()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        lab.Simulated.PutFile($"{SimulatedHost.StateDirectory}/resource-claims/5f1c-vm.json", "{ \"formatVersion\": 1, \"uid\"");
        await lab.Kubelet.StopAsync();
        lab.Kubelet.Start();
        await lab.RestartAgentAsync();
        Assert.Empty(lab.Written);
        Assert.NotEmpty(lab.Simulated.FilesBelow($"{SimulatedHost.StateDirectory}/resource-claims-quarantine"));
        lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim));
    }

    [Fact]
    public async Task A_checkpoint_of_a_newer_agent_ends_this_one()
    {
        var lab = new KubeletLab();
        lab.Simulated.PutFile($"{SimulatedHost.StateDirectory}/resource-claims/5f1c-vm.json", "{ \"formatVersion\": 2 }");
        await using var plugin = new KubeletPlugin(
            lab.Options with
            {
                SocketRoot = lab.Root,
            },
            lab.Node,
            lab.Simulated.Files,
            TimeProvider.System,
            Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance
        );
        JournalException error = await Assert.ThrowsAsync<JournalException>(() => plugin.RunAsync(default));
        Assert.Contains("format 2", error.Message, StringComparison.Ordinal);
        await lab.DisposeAsync();
    }

    [Theory]
    [Trait("Cases", "Many")]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_agent_is_killed_before_and_after_each_write_of_prepare(bool reboot)
    {
        int points = 0;
        foreach (bool before in new[] { true, false })
        {
            for (
                int index = TestScope.First(5);
                await KilledAsync(before, index, reboot, releasing: false);
                index = TestScope.Next(index, 5)
            )
            {
                points++;
            }
        }

        // The checkpoint, and for each of four devices its metadata and the file that mounts it, and the devices' file.
        Assert.Equal(TestScope.Cases(2 * 10, 5), points);
    }

    [Theory]
    [Trait("Cases", "Many")]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_agent_is_killed_before_and_after_each_write_of_unprepare(bool reboot)
    {
        int points = 0;
        foreach (bool before in new[] { true, false })
        {
            for (
                int index = TestScope.First(5);
                await KilledAsync(before, index, reboot, releasing: true);
                index = TestScope.Next(index, 5)
            )
            {
                points++;
            }
        }

        Assert.True(points >= TestScope.Cases(2 * 10, 5), $"only {points} points");
    }

    [Fact]
    [Trait("Cases", "Many")]
    public async Task A_write_that_fails_at_any_point_of_prepare_is_said_and_made_good_when_it_is_asked_for_again()
    {
        int points = 0;
        for (int index = TestScope.First(5); ; index = TestScope.Next(index, 5))
        {
            await using KubeletLab lab = await KubeletLab.StartAsync();
            PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Gpu);
            int at = 0;
            bool hit = false;
            lab.Simulated.Fault = a =>
            {
                if (a is { Before: true, Operation: SimulatedOperation.WriteDurably } && at++ == index)
                {
                    hit = true;
                    throw new HostIoException("write", a.Path, Errnos.ENOSPC);
                }
            };
            PreparedAnswer answer = await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
            lab.Simulated.Fault = null;
            if (!hit)
                break;
            points++;
            Assert.Contains("ENOSPC", answer.Error, StringComparison.Ordinal);
            lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim));
            Assert.Equal("", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, claim));
            Assert.Empty(lab.Written);
        }

        Assert.True(points >= TestScope.Cases(10, 5), $"only {points} points");
    }

    /// <summary>False: there is no such write.</summary>
    private static async Task<bool> KilledAsync(bool before, int index, bool reboot, bool releasing)
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Gpu);
        if (releasing)
            await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        int at = 0;
        bool hit = false;
        lab.Simulated.Fault = a =>
        {
            if (!a.IsChange || a.Before != before || at++ != index)
                return;
            hit = true;
            lab.Simulated.CrashAgent();
        };
        string error = releasing
            ? await lab.Kubelet.EndPodAsync(KubeletLab.Driver, claim)
            : (await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim)).Error;
        lab.Simulated.Fault = null;
        if (!hit)
            return false;
        Assert.NotEqual("", error);
        await lab.RestartAgentAsync(reboot);

        // Whatever it was, the next agent has all of it or nothing.
        Assert.Equal(lab.Plugin.Delivered.Count > 0, lab.Written.Count > 0);
        if (lab.Plugin.Delivered.Count > 0)
            Assert.Equal(1 + 1 + (2 * KubeletLab.Gpu.Length), lab.Written.Count);
        if (reboot)
            await lab.BindAsync("vm", KubeletLab.Gpu);
        if (!releasing)
        {
            ContainerDouble container = lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim));
            Assert.Equal(KubeletLab.Gpu[0], container.AddressOf("vm", "gpu"));
        }

        Assert.Equal("", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, claim));
        Assert.Empty(lab.Written);
        return true;
    }
}
