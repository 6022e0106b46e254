using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using k8s;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Commands;
using PciOperator.Kubernetes;

namespace PciOperator.Cli.Cluster;

/// <summary>An agent's pod, as far as its port goes.</summary>
[KubernetesEntity(Group = "", ApiVersion = "v1", Kind = "Pod", PluralName = "pods")]
internal sealed record AgentPod : IKubernetesObject<V1ObjectMeta>
{
    private const int UsualPort = 8081;

    public string? ApiVersion { get; set; }

    public string? Kind { get; set; }

    public V1ObjectMeta Metadata { get; set; } = new();

    public AgentPodSpec? Spec { get; set; }

    /// <summary>Where it shows its metrics, on the node's loopback.</summary>
    public int Port =>
        (Spec?.Containers ?? []).SelectMany(c => c.Ports ?? []).FirstOrDefault(p => p.Name == "health")?.ContainerPort ?? UsualPort;
}

/// <summary>Where it is, and what of.</summary>
internal sealed record AgentPodSpec
{
    public string? NodeName { get; set; }

    public IReadOnlyList<AgentContainer>? Containers { get; set; }
}

/// <summary>A container's ports.</summary>
internal sealed record AgentContainer
{
    public IReadOnlyList<AgentPort>? Ports { get; set; }
}

/// <summary>A port.</summary>
internal sealed record AgentPort
{
    public string? Name { get; set; }

    public int? ContainerPort { get; set; }
}

/// <summary>
/// What agents show at /metrics. They do so on their node's loopback alone, which the API server doesn't reach and a port-forward does: the
/// kubelet connects from within the pod's network, which is the host's. kubectl knows how to.
/// </summary>
internal static partial class AgentMetrics
{
    private const int AtOnce = 16;
    private const int Longest = 16 << 20;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(15);

    /// <summary>The metrics of each node's agent, in Prometheus' text format; of who can't be asked nothing, and one warning says why.</summary>
    public static async Task<IReadOnlyDictionary<string, string>> ReadAsync(Session session, string agents, IReadOnlySet<string> nodes)
    {
        EntityList<AgentPod> pods;
        try
        {
            pods = await session.Client.ListAsync<AgentPod>(
                agents,
                new ListOptions { LabelSelector = Installation.AgentSelector },
                session.Ct
            );
        }
        catch (ApiException forbidden) when (forbidden.IsForbidden)
        {
            await session.WarnAsync($"you may not list the agents' pods in {agents}: traffic is not known");
            return new Dictionary<string, string>();
        }

        using var slots = new SemaphoreSlim(AtOnce);
        (string Node, string? Text, string? Why)[] asked = await Task.WhenAll(nodes.Select(AskAsync));
        (string Node, string? Text, string? Why)[] failed =
        [
            .. asked.Where(a => a.Text is null).OrderBy(a => a.Node, StringComparer.Ordinal),
        ];
        if (failed.Length > 0)
        {
            await session.WarnAsync(
                $"traffic is not known of {string.Join(", ", failed.Select(f => f.Node))}: {string.Join("; ", failed.Select(f => f.Why).Distinct())}"
            );
        }

        return asked.Where(a => a.Text is not null).ToDictionary(a => a.Node, a => a.Text!);

        async Task<(string Node, string? Text, string? Why)> AskAsync(string node)
        {
            AgentPod? pod = pods.Items.FirstOrDefault(p => p.Spec?.NodeName == node && p.Metadata.DeletionTimestamp is null);
            if (pod is null)
                return (node, null, "no agent runs on it");
            await slots.WaitAsync(session.Ct);
            try
            {
                return (node, await ForwardAsync(session, pod), null);
            }
            catch (CliException failed)
            {
                return (node, null, failed.Message);
            }
            finally
            {
                slots.Release();
            }
        }
    }

    private static async Task<string> ForwardAsync(Session session, AgentPod pod)
    {
        var start = new ProcessStartInfo(session.Io.Kubectl) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (
            string argument in (IEnumerable<string>)
                [
                    .. session.KubectlOptions,
                    "--namespace",
                    pod.Metadata.NamespaceProperty,
                    "port-forward",
                    "--address",
                    "127.0.0.1",
                    $"pod/{pod.Metadata.Name}",
                    string.Create(CultureInfo.InvariantCulture, $":{pod.Port}"),
                ]
        )
        {
            start.ArgumentList.Add(argument);
        }

        using var limit = CancellationTokenSource.CreateLinkedTokenSource(session.Ct);
        limit.CancelAfter(Limit);
        try
        {
            using Process kubectl = Process.Start(start) ?? throw new CliException(ExitCodes.Failed, "kubectl can't be run");
            try
            {
                Task<string> errors = kubectl.StandardError.ReadToEndAsync(limit.Token);
                while (await kubectl.StandardOutput.ReadLineAsync(limit.Token) is { } line)
                {
                    if (Forwarding().Match(line) is { Success: true } match)
                        return await GetAsync(match.Groups["port"].Value, limit.Token);
                }

                string said = (await errors).Trim().Split('\n')[^1];
                throw new CliException(ExitCodes.Failed, said.Length > 0 ? $"kubectl port-forward: {said}" : "kubectl port-forward ended");
            }
            finally
            {
                kubectl.Kill(entireProcessTree: true);
            }
        }
        catch (OperationCanceledException) when (!session.Ct.IsCancellationRequested)
        {
            throw new CliException(ExitCodes.Failed, $"no answer within {Limit.TotalSeconds:0} s");
        }
        catch (System.ComponentModel.Win32Exception missing)
        {
            throw new CliException(ExitCodes.Failed, $"{session.Io.Kubectl} can't be run: {missing.Message}");
        }
        catch (HttpRequestException broken)
        {
            throw new CliException(ExitCodes.Failed, $"the agent doesn't answer: {broken.Cause()}");
        }
    }

    private static async Task<string> GetAsync(string port, CancellationToken ct)
    {
        using var handler = new SocketsHttpHandler { UseProxy = false };
        using var http = new HttpClient(handler) { MaxResponseContentBufferSize = Longest };
        return await http.GetStringAsync(new Uri($"http://127.0.0.1:{port}/metrics"), ct);
    }

    [GeneratedRegex(@"^Forwarding from 127\.0\.0\.1:(?<port>[0-9]{1,5}) ->")]
    private static partial Regex Forwarding();
}
