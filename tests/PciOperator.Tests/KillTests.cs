using System.Diagnostics;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>
/// kill -9 of the controller and of the agent, as processes, before and after each write and API call of a claim's life: the
/// claim becomes Ready and goes all the same, no device has two owners, and none is stranded.
/// </summary>
[Turns(5)]
public sealed class KillTests(ITestOutputHelper output)
{
    private const string Node = "node-1";
    private static readonly string[] Coalesced = ["pcialiases/status", "pcidevicespecs/status", "nodes/status", "events"];

    [TurnFact]
    public Task The_agent_is_killed_at_every_point() => KillEverywhereAsync("agent");

    [TurnFact]
    public Task The_controller_is_killed_at_every_point() => KillEverywhereAsync("controller");

    private async Task KillEverywhereAsync(string victim)
    {
        string folder = Directory.CreateTempSubdirectory("pcioperator-kill-").FullName;
        await using TestApiServer server = await TestApiServer.SandboxAsync(
            new Sandbox.ApiServer.SandboxApiServerOptions
            {
                Crds = Sandbox.Validation.SandboxCrds.All,
                Validators = Sandbox.Validation.OwnResourceRules.Validators,
            }
        );
        using EntityClient client = server.Client(PciOperatorJsonContext.Default);
        string kubeconfig = Path.Combine(folder, "kubeconfig");
        await File.WriteAllTextAsync(kubeconfig, server.KubeconfigText);
        string hostFile = Path.Combine(folder, "host.json");
        LabHosts.Create(1).SaveTo(hostFile);
        await Manifests.ApplyAsync(client, "{apiVersion: v1, kind: Namespace, metadata: {name: pcioperator-system}}");
        foreach (string sample in new[] { "device-specs", "aliases" })
        {
            await Manifests.ApplyAsync(
                client,
                await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "samples", sample + ".yaml"))
            );
        }

        await Manifests.ApplyAsync(
            client,
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PciAlias
            metadata: { name: port }
            spec:
              devices: [{ vendorId: "8086", productId: "10c9", deviceType: type-PF }]
            """
        );
        var kubelet = new SimulatedKubelet(client, Node);
        await kubelet.RegisterAsync();
        await kubelet.SetAgentReadyAsync(true);

        await using var controller = new KillableProgram("controller", "--kubeconfig", kubeconfig);
        await using var agent = new KillableProgram("agent", "--kubeconfig", kubeconfig, "--node-name", Node, "--host", hostFile);
        var life = new Life(client, hostFile);
        await life.SettledAsync();
        IReadOnlyDictionary<string, string?> before = LabCluster.DriversOf(SimulatedHost.Open(hostFile));

        // One life undisturbed says which points there are.
        KillableProgram program = victim == "agent" ? agent : controller;
        IReadOnlyList<string> points = await program.TraceAsync(life.LiveAsync);
        Assert.NotEmpty(points);
        // How often counts, conditions of Nodes and events are written depends on how changes fall together: of these the first counts.
        points =
        [
            .. points.Where(p =>
                p.StartsWith("1 ", StringComparison.Ordinal) || !Coalesced.Any(c => p.EndsWith(c, StringComparison.Ordinal))
            ),
        ];

        Assert.True(points.Count > 8, $"only {points.Count} points");
        points = TestScope.Share(points, 8);

        var missed = new List<string>();
        int kills = 0;
        foreach (string point in points)
        {
            foreach (string when in new[] { "before", "after" })
            {
                // Some calls depend on how events fall together; what is not reached at once is tried again.
                bool hit = false;
                for (int attempt = 0; attempt < 4 && !hit; attempt++)
                {
                    // A module that is loaded stays so until the next boot.
                    if (point.Contains("modprobe", StringComparison.Ordinal))
                    {
                        await agent.RestartAsync(() => SimulatedHost.Open(hostFile).Reboot());
                        await life.BootedAsync(SimulatedHost.Open(hostFile).BootId);
                        await life.SettledAsync();
                        before = LabCluster.DriversOf(SimulatedHost.Open(hostFile)); // VFs that nobody asks for are forgotten at boot
                    }

                    // Which reset works on a device is learnt once: here it is forgotten before each try.
                    if (
                        point.Contains("device memory", StringComparison.Ordinal) || point.Contains("sysfs reset", StringComparison.Ordinal)
                    )
                    {
                        await agent.RestartAsync(() =>
                        {
                            var host = SimulatedHost.Open(hostFile);
                            const string devices = SimulatedHost.StateDirectory + "/devices";
                            foreach (string record in host.Files.List(devices))
                                host.RemoveFile($"{devices}/{record}");
                        });
                        await life.SettledAsync();
                    }

                    // Numbers alone are said of a Node from time to time; a controller that has said nothing yet says them at once.
                    if (point.EndsWith(" nodes/status", StringComparison.Ordinal))
                    {
                        await controller.RestartAsync(() => { });
                        await life.SettledAsync();
                    }

                    int deaths = program.Deaths;
                    await program.SayAsync($"arm {when} {point}");
                    await life.LiveAsync();
                    // The life may be over for us before the last call's answer is there for the program.
                    for (int wait = 0; wait < 100 && program.Deaths == deaths; wait++)
                        await Task.Delay(10);
                    hit = program.Deaths > deaths;
                    await program.SayAsync("count");
                    IReadOnlyDictionary<string, string?> now = LabCluster.DriversOf(SimulatedHost.Open(hostFile));
                    Assert.True(
                        before.OrderBy(p => p.Key).SequenceEqual(now.OrderBy(p => p.Key)),
                        $"killed {when} {point}: a device is stranded: {string.Join(", ", now.Except(before))}"
                    );
                }

                kills += hit ? 1 : 0;
                output.WriteLine($"{(hit ? "killed" : "MISSED")} {victim} {when} {point}");
                if (!hit)
                    missed.Add($"{when} {point}");
            }
        }

        output.WriteLine($"{victim}: {points.Count} points, {kills} kills, {missed.Count} missed");
        Assert.Empty(missed);
        Directory.Delete(folder, recursive: true);
    }

    /// <summary>A claim from its making to its end: a card of four functions, and a port whose free VFs have to go and come back.</summary>
    private sealed class Life(EntityClient client, string hostFile)
    {
        private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
        private int _lives;

        public async Task LiveAsync()
        {
            string name = $"life-{++_lives}";
            await client.CreateAsync(
                new PassthroughClaim
                {
                    Metadata = new() { Name = name, NamespaceProperty = "default" },
                    Spec = new() { Requests = [new() { Name = "gpu", Alias = "nv2080" }, new() { Name = "port", Alias = "port" }] },
                }
            );
            PassthroughClaim? ready = await WaitAsync(
                $"{name} to be Ready",
                () => client.GetAsync<PassthroughClaim>(name, "default"),
                c => c?.Status?.Conditions.IsTrue(Conditions.Ready) == true
            );
            var host = SimulatedHost.Open(hostFile);
            Assert.Equal(5, ready!.Status!.Devices!.Count);
            Assert.All(ready.Status.Devices, d => Assert.Equal("vfio-pci", LabCluster.DriverOf(host, d.Address)));
            await CheckOwnersAsync();

            await client.DeleteAsync<PassthroughClaim>(name, "default");
            await WaitAsync($"{name} to go", () => client.GetAsync<PassthroughClaim>(name, "default"), c => c is null);
            await SettledAsync();
        }

        /// <summary>Until the agent speaks of this boot.</summary>
        public Task BootedAsync(string bootId) =>
            WaitAsync("the agent to see the boot", () => client.GetAsync<PciNode>(Node), n => n?.Status?.BootId == bootId);

        /// <summary>Until nothing is held and every PF has its VFs.</summary>
        public Task SettledAsync() =>
            WaitAsync(
                "the node to settle",
                () => client.GetAsync<PciNode>(Node),
                n =>
                {
                    var rules = (n?.Spec.Rules ?? []).ToDictionary(r => r.Name);
                    return n?.Status?.ObservedGeneration == n?.Metadata.Generation
                        && n?.Status?.Devices is { Count: > 0 } devices
                        && n.Spec.Assignments is not { Count: > 0 }
                        && n.Status.Assignments is not { Count: > 0 }
                        && devices
                            .Where(d => d is { Type: DeviceType.Pf, Rule: not null })
                            .All(d => rules[d.Rule!].Sriov?.NumVfs is not { } wanted || d.NumVfs == wanted);
                }
            );

        private async Task CheckOwnersAsync()
        {
            PciNode? node = await client.GetAsync<PciNode>(Node);
            Assert.All(
                (node!.Spec.Assignments ?? []).SelectMany(a => a.Devices.Select(d => (d.Address, a.ClaimUid))).GroupBy(p => p.Address),
                g => Assert.Single(g)
            );
        }

        private static async Task<T?> WaitAsync<T>(string what, Func<Task<T?>> read, Func<T?, bool> holds)
            where T : class
        {
            var began = Stopwatch.StartNew();
            while (true)
            {
                T? now = await read();
                if (holds(now))
                    return now;
                Assert.True(began.Elapsed < Patience, $"waited in vain for {what}");
                await Task.Delay(10);
            }
        }
    }
}
