using System.Net.Sockets;
using PciOperator.Testing;

namespace PciOperator.Kubelet.Tests;

/// <summary>The kubelet finds the plugin, loses it and finds it again.</summary>
public sealed class RegistrationTests
{
    [Fact]
    public async Task The_kubelet_takes_the_plugin_and_the_status_says_so()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        await KubeletDouble.UntilAsync(() => lab.Plugin.Status.IsRegistered, "it is not registered");
        Assert.Equal(["/k/plugins/pcioperator.io/dra.sock"], lab.Kubelet.Endpoints);
        Assert.True(File.Exists($"{lab.Root}/k/plugins_registry/pcioperator.io-reg.sock"));
    }

    [Fact]
    public async Task A_kubelet_that_refuses_the_plugin_is_quoted()
    {
        await using var lab = new KubeletLab();
        lab.Kubelet.Refuses = "no handler for you";
        lab.Kubelet.Start();
        lab.StartPlugin();
        await KubeletDouble.UntilAsync(() => lab.Plugin.Status.Reason == "Refused", "it was not refused");
        Assert.Equal("the kubelet does not take the plugin: no handler for you", lab.Plugin.Status.Message);
        Assert.False(lab.Plugin.Status.IsRegistered);
    }

    [Fact]
    public async Task A_host_without_a_kubelet_says_so_and_a_kubelet_that_comes_later_is_found()
    {
        await using var lab = new KubeletLab();
        lab.StartPlugin();
        await KubeletDouble.UntilAsync(() => lab.Plugin.Status.Reason == "NoKubelet", "nothing was said");
        Assert.Contains("/k/plugins_registry", lab.Plugin.Status.Message, StringComparison.Ordinal);
        lab.Kubelet.Start();
        await lab.Kubelet.WaitForPluginAsync(KubeletLab.Driver);
    }

    [Fact]
    public async Task Sockets_that_vanish_are_served_again()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        foreach (string path in Directory.EnumerateFiles($"{lab.Root}/k", "*.sock", SearchOption.AllDirectories).ToList())
        {
            File.Delete(path);
            await KubeletDouble.UntilAsync(() => File.Exists(path), $"{path} is not there again");
            await lab.Kubelet.WaitForPluginAsync(KubeletLab.Driver);
            await lab.Kubelet.StartPodInTheEndAsync(KubeletLab.Driver, claim);
            // The one that was registered before may still be asked when the other comes.
            Assert.Equal("", await lab.Kubelet.EndPodInTheEndAsync(KubeletLab.Driver, claim));
        }

        Directory.Delete($"{lab.Root}/k/plugins/pcioperator.io", recursive: true);
        await lab.Kubelet.StartPodInTheEndAsync(KubeletLab.Driver, claim);
    }

    [Fact]
    public async Task An_orderly_end_removes_the_sockets_and_the_kubelet_forgets_the_plugin()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        await lab.StopPluginAsync();
        await lab.Kubelet.WaitForNoPluginAsync(KubeletLab.Driver);
        Assert.Empty(Directory.EnumerateFiles($"{lab.Root}/k", "*.sock", SearchOption.AllDirectories));
    }

    [Fact]
    public async Task The_next_pods_agent_registers_before_this_one_ends_and_dead_ones_sockets_are_removed()
    {
        await using var lab = new KubeletLab();
        lab.Kubelet.Start();
        lab.Options = lab.Options with { PodUid = "0a1b" };
        lab.StartPlugin();
        await lab.Kubelet.WaitForPluginAsync(KubeletLab.Driver);
        string registry = $"{lab.Root}/k/plugins_registry",
            folder = $"{lab.Root}/k/plugins/pcioperator.io";
        Leave($"{registry}/pcioperator.io-dead-reg.sock");
        Leave($"{registry}/pcioperator.io-reg.sock");
        Leave($"{folder}/dra-dead.sock");
        Leave($"{registry}/other.example.com-reg.sock");
        await using var next = new KubeletPlugin(
            lab.Options with
            {
                SocketRoot = lab.Root,
                PodUid = "2c3d",
            },
            lab.Node,
            lab.Simulated.Files,
            TimeProvider.System,
            Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance
        );
        using var stop = new CancellationTokenSource();
        Task running = next.RunAsync(stop.Token);
        await KubeletDouble.UntilAsync(
            () => lab.Kubelet.Endpoints.Contains("/k/plugins/pcioperator.io/dra-2c3d.sock"),
            "the next did not register"
        );
        Assert.Equal(
            [
                "dra-0a1b.sock",
                "dra-2c3d.sock",
                "other.example.com-reg.sock",
                "pcioperator.io-0a1b-reg.sock",
                "pcioperator.io-2c3d-reg.sock",
            ],
            Directory
                .EnumerateFiles($"{lab.Root}/k", "*.sock", SearchOption.AllDirectories)
                .Select(Path.GetFileName)
                .Order(StringComparer.Ordinal)
        );
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        await lab.StopPluginAsync();
        await lab.Kubelet.StartPodInTheEndAsync(KubeletLab.Driver, claim);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
    }

    [Fact]
    public async Task A_path_that_is_too_long_for_a_socket_is_said_with_what_to_do()
    {
        await using var lab = new KubeletLab();
        string folder = "/" + new string('k', 60);
        Directory.CreateDirectory($"{lab.Root}{folder}/plugins_registry");
        lab.Options = lab.Options with { KubeletDirectory = folder, PodUid = Guid.NewGuid().ToString() };
        lab.StartPlugin();
        await KubeletDouble.UntilAsync(() => lab.Plugin.Status.Reason == "NotServed", "nothing was said");
        Assert.Contains("at most 107: give --kubelet-dir a shorter one", lab.Plugin.Status.Message, StringComparison.Ordinal);
    }

    /// <summary>A socket as a process leaves it that was killed.</summary>
    private static void Leave(string path)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(path + ".x"));
        // .NET removes the path that it bound.
        File.Move(path + ".x", path);
    }
}
