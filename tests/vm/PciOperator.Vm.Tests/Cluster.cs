using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using k8s;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Testing;

namespace PciOperator.Vm.Tests;

/// <summary>
/// A cluster of one node that is real where it matters: a real API server with what `kubectl apply -k config` puts there,
/// the published controller on the host and the published agent in a guest, each with the token of its own service account.
/// The kubelet's part, the Node and the agent's Pod, is played here.
/// </summary>
internal sealed partial class Cluster : IAsyncDisposable
{
    public const string Node = "node0";

    private const string SystemNamespace = Installation.AgentsNamespace;

    // Emulated processors are slow, and so is a device that is reset.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private readonly DirectoryInfo _kubeconfigs = Directory.CreateTempSubdirectory("pcioperator-vm-");
    private readonly string _logs = Path.Combine(Lab.Artifacts, "runs");
    private readonly TestApiServer _server;
    private ChildProcess? _controller;
    private VirtualMachine? _machine;

    private Cluster(TestApiServer server)
    {
        _server = server;
        Client = server.Client(ResourceJsonContext.WithOwnKinds, fieldManager: "test");
    }

    private string AdminKubeconfig => Path.Combine(_kubeconfigs.FullName, "admin");

    /// <summary>As administrator.</summary>
    public EntityClient Client { get; }

    /// <summary>The node's host.</summary>
    public VirtualMachine Machine => _machine ?? throw new InvalidOperationException("the cluster has not started");

    public static async Task<Cluster> StartAsync()
    {
        if (Lab.WhyNoCluster is { } missing)
            throw new InvalidOperationException(missing);
        var cluster = new Cluster(await TestApiServer.RealAsync());
        try
        {
            await File.WriteAllTextAsync(cluster.AdminKubeconfig, cluster._server.KubeconfigText);
            cluster.Kubectl("kubectl apply --validate=strict -k config");
            await cluster.PlayKubeletAsync();
            await cluster.StartProgramsAsync();
            return cluster;
        }
        catch
        {
            await cluster.DisposeAsync();
            throw;
        }
    }

    /// <summary>Starts the agent in the guest, or another one; it logs to /run/agent.log there.</summary>
    public Task<string> StartAgentAsync(string program = "/mnt/agent/pcioperator-agent") =>
        Machine.OutputOfAsync(
            $"setsid {program} --node-name {Node} --kubeconfig /mnt/kubeconfig/agent --log-format Text >> /run/agent.log 2>&1 & echo $! > /run/agent.pid"
        );

    /// <summary>Ends the agent with SIGKILL. A thread of it that the kernel holds up stays until the kernel lets it go.</summary>
    public Task<string> KillAgentAsync() => Machine.OutputOfAsync("kill -9 $(cat /run/agent.pid)");

    /// <summary>Cuts the host's power, boots it again and starts the agent.</summary>
    /// <param name="hardware">What was changed while the power was off; null: nothing.</param>
    public async Task CutPowerAsync(Hardware? hardware = null)
    {
        await SaveAgentLogAsync();
        await Machine.RestartAsync(hardware);
        await StartAgentAsync();
    }

    /// <summary>Makes a device spec and an alias of the same name for some devices.</summary>
    public async Task OfferAsync(
        string name,
        DeviceSelectorSpec devices,
        AliasDevice alias,
        int? numVfs = null,
        Action<PciDeviceSpecSpec>? more = null
    )
    {
        var spec = new PciDeviceSpecSpec { Devices = [devices], Sriov = numVfs is null ? null : new() { NumVfs = numVfs } };
        more?.Invoke(spec);
        await Client.CreateAsync(
            new PciDeviceSpec
            {
                Metadata = new() { Name = name },
                Spec = spec,
            }
        );
        await Client.CreateAsync(
            new PciAlias
            {
                Metadata = new() { Name = name },
                Spec = new() { Devices = [alias] },
            }
        );
    }

    /// <summary>Changes the number of VFs that a device spec asks for.</summary>
    public async Task AskForVfsAsync(string spec, int numVfs)
    {
        PciDeviceSpec current =
            await Client.GetAsync<PciDeviceSpec>(spec) ?? throw new InvalidOperationException($"there is no PciDeviceSpec {spec}");
        current.Spec.Sriov = new() { NumVfs = numVfs };
        await Client.UpdateAsync(current);
    }

    /// <summary>Takes back what <see cref="OfferAsync"/> made, and waits until the node offers none of it any more.</summary>
    public async Task WithdrawAsync(string name)
    {
        await Client.DeleteAsync<PciAlias>(name);
        await Client.DeleteAsync<PciDeviceSpec>(name);
        await WaitForAsync<PciNode>(Node, null, node => node.Status?.Devices?.Any(device => device.Rule == name) != true);
    }

    public Task<PassthroughClaim> ClaimAsync(
        string name,
        string alias,
        int count = 1,
        NumaPolicy? numaPolicy = null,
        int? numaNode = null
    ) =>
        Client.CreateAsync(
            new PassthroughClaim
            {
                Metadata = new() { Name = name, NamespaceProperty = "default" },
                Spec = new()
                {
                    Requests =
                    [
                        new()
                        {
                            Name = "devices",
                            Alias = alias,
                            Count = count,
                        },
                    ],
                    NumaPolicy = numaPolicy,
                    NumaNodes = numaNode is { } node ? [node] : null,
                },
            }
        );

    /// <summary>Waits until a claim is as it should be.</summary>
    public Task<PassthroughClaim> WaitForClaimAsync(string name, Func<PassthroughClaimStatus, bool> condition) =>
        WaitForAsync<PassthroughClaim>(name, "default", claim => claim.Status is { } status && condition(status));

    /// <summary>Waits until the PciNode shows a device as it should be.</summary>
    public async Task<PciNodeDevice> WaitForDeviceAsync(string address, Func<PciNodeDevice, bool> condition) =>
        (
            await WaitForAsync<PciNode>(
                Node,
                null,
                node => node.Status?.Devices?.Any(device => device.Address == address && condition(device)) == true
            )
        ).Status!.Devices!.Single(device => device.Address == address);

    /// <summary>
    /// Waits until the PciNode says that a device is not offered, in a sentence that has these words (an earlier one may have others).
    /// </summary>
    public Task<PciNodeDevice> WaitForUnavailableAsync(string address, string words) =>
        WaitForDeviceAsync(
            address,
            device => device.State == DeviceState.Unavailable && device.Reason?.Contains(words, StringComparison.Ordinal) == true
        );

    /// <summary>Waits until the agent says of a claim what it should.</summary>
    public async Task<AssignmentStatus> WaitForAssignmentAsync(string claim, Func<AssignmentStatus, bool> condition) =>
        (
            await WaitForAsync<PciNode>(
                Node,
                null,
                node => node.Status?.Assignments?.Any(assignment => assignment.ClaimName == claim && condition(assignment)) == true
            )
        ).Status!.Assignments!.Single(assignment => assignment.ClaimName == claim);

    /// <summary>Takes away every claim, alias and spec that a test has left.</summary>
    public async Task ClearAsync()
    {
        foreach (PassthroughClaim claim in (await Client.ListAsync<PassthroughClaim>("default")).Items)
            await ReleaseAsync(claim.Metadata.Name!);
        foreach (PciAlias alias in (await Client.ListAsync<PciAlias>()).Items)
            await Client.DeleteAsync<PciAlias>(alias.Metadata.Name!);
        foreach (PciDeviceSpec spec in (await Client.ListAsync<PciDeviceSpec>()).Items)
            await WithdrawAsync(spec.Metadata.Name!);
    }

    public Task<PassthroughClaim> WaitUntilReadyAsync(string claim) =>
        WaitForAsync<PassthroughClaim>(
            claim,
            "default",
            c =>
                c.Status?.Phase == ClaimPhase.Allocated
                && c.Status.Conditions?.Any(condition => condition is { Type: Conditions.Ready, Status: "True" }) == true
        );

    /// <summary>Deletes a claim and waits until it has gone, which is when its devices have been given back.</summary>
    public async Task ReleaseAsync(string claim)
    {
        await Client.DeleteAsync<PassthroughClaim>(claim, "default");
        await FindStateAsync<PassthroughClaim>(claim, "default", c => c is null, "gone");
    }

    /// <summary>Waits until an object is as it should be.</summary>
    /// <exception cref="TimeoutException">It never was; the message has what it was instead and the ends of the programs' logs.</exception>
    public async Task<T> WaitForAsync<T>(string name, string? ns, Func<T, bool> condition)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        (await FindStateAsync<T>(name, ns, item => item is not null && condition(item), "as expected"))!;

    /// <summary>Runs a shell command, with kubectl as administrator, in the repository's folder; returns its output.</summary>
    public string Kubectl(string command) =>
        Encoding.UTF8.GetString(Lab.Run("sh", "-c", $"cd '{Lab.Repository}' && export KUBECONFIG='{AdminKubeconfig}' && {command.Trim()}"));

    public async ValueTask DisposeAsync()
    {
        if (_machine is not null)
        {
            await SaveAgentLogAsync();
            await _machine.DisposeAsync();
        }

        if (_controller is not null)
            await _controller.DisposeAsync();
        Client.Dispose();
        await _server.DisposeAsync();
        _kubeconfigs.Delete(recursive: true);
    }

    /// <summary>Adds the agent's log of this boot to the file on the host.</summary>
    private async Task SaveAgentLogAsync()
    {
        if (Machine.IsRunning)
            await File.AppendAllTextAsync(Path.Combine(_logs, "agent.log"), (await Machine.RunAsync("cat /run/agent.log")).Output + "\n");
    }

    private async Task<T?> FindStateAsync<T>(string name, string? ns, Func<T?, bool> condition, string what)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        using var patience = new CancellationTokenSource(Patience);
        T? last = null;
        try
        {
            await foreach (T? state in StatesAsync<T>(name, ns, patience.Token))
            {
                if (condition(state))
                    return state;
                last = state;
            }
        }
        catch (OperationCanceledException) when (patience.IsCancellationRequested)
        {
            // Told below, with what is known.
        }

        CommandResult agent = await Machine.RunAsync("tail -n 40 /run/agent.log");
        PciNode? node = await Client.GetAsync<PciNode>(Node);
        throw new TimeoutException(
            $"""
            {typeof(T).Name} {name} was not {what} within {Patience.TotalSeconds} s. It was last: {JsonSerializer.Serialize(
                last,
                Client.JsonOptions
            )}
            The PciNode: {JsonSerializer.Serialize(node, Client.JsonOptions)}
            The end of the agent's log:
            {agent.Output}
            The end of the controller's log ({_controller?.Log}):
            {_controller?.LogEnd}
            """
        );
    }

    /// <summary>An object as it is and then as it becomes; null while there is none.</summary>
    private async IAsyncEnumerable<T?> StatesAsync<T>(string name, string? ns, [EnumeratorCancellation] CancellationToken cancellationToken)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        while (true)
        {
            T? now = await Client.GetAsync<T>(name, ns, cancellationToken);
            yield return now;
            var later = new ListOptions { FieldSelector = $"metadata.name={name}", ResourceVersion = now?.Metadata.ResourceVersion };
            await foreach (WatchEvent<T> change in Client.WatchAsync<T>(ns, later, cancellationToken))
            {
                if (change.Type is not WatchEventType.Bookmark)
                    yield return change.Type is WatchEventType.Deleted ? null : change.Object;
            }
        }
    }

    private async Task PlayKubeletAsync()
    {
        string now = DateTimeOffset.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'");
        JsonArray ready =
        [
            new JsonObject
            {
                ["type"] = "Ready",
                ["status"] = "True",
                ["reason"] = "Test",
                ["message"] = "played by a test",
                ["lastTransitionTime"] = now,
                ["lastHeartbeatTime"] = now,
            },
        ];
        await CreateAsync(
            "/api/v1/nodes",
            new()
            {
                ["metadata"] = new JsonObject
                {
                    ["name"] = Node,
                    ["labels"] = new JsonObject { ["kubernetes.io/hostname"] = Node },
                },
                ["status"] = new JsonObject { ["conditions"] = ready.DeepClone() },
            }
        );
        ready[0]!.AsObject().Remove("lastHeartbeatTime");
        await CreateAsync(
            $"/api/v1/namespaces/{SystemNamespace}/pods",
            new()
            {
                ["metadata"] = new JsonObject
                {
                    ["name"] = "pcioperator-agent-0",
                    ["labels"] = new JsonObject { ["app.kubernetes.io/name"] = "pcioperator", ["app.kubernetes.io/component"] = "agent" },
                },
                ["spec"] = new JsonObject
                {
                    ["nodeName"] = Node,
                    ["containers"] = new JsonArray(new JsonObject { ["name"] = "agent", ["image"] = "pcioperator/agent" }),
                },
                ["status"] = new JsonObject { ["phase"] = "Running", ["conditions"] = ready },
            }
        );

        async Task CreateAsync(string path, JsonObject item)
        {
            var status = new JsonObject { ["status"] = item["status"]!.DeepClone() };
            await Client.SendRawAsync(HttpMethod.Post, path, Encoding.UTF8.GetBytes(item.ToJsonString()));
            await Client.SendRawAsync(
                HttpMethod.Patch,
                $"{path}/{item["metadata"]!["name"]}/status",
                Encoding.UTF8.GetBytes(status.ToJsonString()),
                "application/merge-patch+json"
            );
        }
    }

    private async Task StartProgramsAsync()
    {
        var server = new Uri(Client.Configuration.Host);
        string forGuest = Directory.CreateDirectory(Path.Combine(_kubeconfigs.FullName, "guest")).FullName;
        await WriteKubeconfigAsync(
            Path.Combine(forGuest, "agent"),
            "https://10.0.2.100:6443",
            $"system:serviceaccount:{SystemNamespace}:pcioperator-agent@{Node}"
        );
        string forController = Path.Combine(_kubeconfigs.FullName, "controller");
        await WriteKubeconfigAsync(
            forController,
            server.ToString().TrimEnd('/'),
            $"system:serviceaccount:{Installation.ControllerNamespace}:pcioperator-controller"
        );

        Directory.CreateDirectory(_logs);
        File.Delete(Path.Combine(_logs, "agent.log"));
        _controller = new ChildProcess(
            Path.Combine(_logs, "controller.log"),
            Lab.Published("controller"),
            "--kubeconfig",
            forController,
            "--health-address",
            "127.0.0.1:0",
            "--log-format",
            "Text",
            // There is no kubelet in the guest: what a claim that says nothing gets is opened there by whoever is.
            "--default-delivery",
            nameof(Delivery.None)
        );
        var shares = new Dictionary<string, string>
        {
            ["agent"] = Path.GetDirectoryName(Lab.Published("agent"))!,
            ["guest"] = Path.GetDirectoryName(Lab.Published("vm-guest"))!,
            ["kubeconfig"] = forGuest,
        };
        if (Lab.WhyNoEarlierAgent is null)
            shares["agent-earlier"] = Path.GetDirectoryName(Lab.EarlierAgent)!;
        _machine = await VirtualMachine.StartAsync(
            new()
            {
                Name = Node,
                StateDisk = true,
                ApiServerPort = server.Port,
                Shares = shares,
            }
        );
        await StartAgentAsync();
    }

    private Task WriteKubeconfigAsync(string path, string server, string token) =>
        File.WriteAllTextAsync(
            path,
            $$"""
            apiVersion: v1
            kind: Config
            current-context: test
            clusters:
            - name: test
              cluster:
                server: {{server}}
                certificate-authority-data: {{CertificateAuthority().Match(_server.KubeconfigText).Groups[1].Value}}
            users:
            - name: test
              user:
                token: "{{token}}"
            contexts:
            - name: test
              context:
                cluster: test
                user: test
            """
        );

    [GeneratedRegex("certificate-authority-data: *\"?([^\"\\s]+)")]
    private static partial Regex CertificateAuthority();
}
