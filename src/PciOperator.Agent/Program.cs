using System.CommandLine;
using Microsoft.Extensions.Logging;
using PciOperator.Agent;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Kubelet;
using PciOperator.Kubernetes;

var node = new Option<string>("--node-name")
{
    Description = "The Node that it runs on.",
    DefaultValueFactory = _ => Environment.GetEnvironmentVariable("NODE_NAME") ?? Environment.MachineName.ToLowerInvariant(),
};
var kubeconfig = new Option<string?>("--kubeconfig")
{
    Description = "A kubeconfig file; without it $KUBECONFIG, ~/.kube/config or the pod's service account.",
};
var ns = new Option<string>("--namespace")
{
    Description = "The namespace that it runs in.",
    DefaultValueFactory = _ => Environment.GetEnvironmentVariable("POD_NAMESPACE") ?? Installation.AgentsNamespace,
};
var installation = new Option<string?>("--installation")
{
    Description =
        "Its controller's namespace and lease, as NAMESPACE/LEASE: a PciNode that is marked as another installation's is left alone. Not given: whoever has marked it is obeyed.",
};
var root = new Option<string>("--host-root") { Description = "Where the host's /sys, /proc and /dev are.", DefaultValueFactory = _ => "/" };
var state = new Option<string>("--state-dir")
{
    Description = "Where the journal is kept, on the host.",
    DefaultValueFactory = _ => "/var/lib/pcioperator",
};
var kubelet = new Option<string>("--kubelet-dir")
{
    Arity = ArgumentArity.ZeroOrOne,
    Description = "The kubelet's folder, on the host; empty for no kubelet: devices are bound, and handed to nobody.",
    DefaultValueFactory = _ => "/var/lib/kubelet",
};
var cdi = new Option<string>("--cdi-dir")
{
    Description = "Where the container runtime looks for CDI files, on the host.",
    DefaultValueFactory = _ => "/var/run/cdi",
};
var health = new Option<string>("--health-address")
{
    Arity = ArgumentArity.ZeroOrOne,
    Description = "Where /healthz, /readyz and /metrics are served; empty for nowhere.",
    DefaultValueFactory = _ => "127.0.0.1:8081",
};
var shown = new Option<string>("--metrics-address")
{
    Arity = ArgumentArity.ZeroOrOne,
    Description = "Where /metrics is served besides, for who can't reach the health address; empty for nowhere.",
    DefaultValueFactory = _ => "",
};
var denied = new Option<string>("--denied-drivers")
{
    Arity = ArgumentArity.ZeroOrOne,
    Description = "Drivers whose devices are never taken, comma-separated, beyond the built-in list.",
    DefaultValueFactory = _ => "",
};
var level = new Option<LogLevel>("--log-level")
{
    Description = "trace, debug, information, warning, error or critical.",
    DefaultValueFactory = _ => LogLevel.Information,
};
var format = new Option<LogFormat>("--log-format") { Description = "json or text.", DefaultValueFactory = _ => LogFormat.Json };

var command = new RootCommand("Holds this host's PCI devices to its PciNode. " + Traces.Help)
{
    node,
    kubeconfig,
    ns,
    installation,
    root,
    state,
    kubelet,
    cdi,
    health,
    shown,
    denied,
    level,
    format,
};
command.SetAction(
    (parsed, _) =>
    {
        string kubeletFolder = TextOf(parsed, kubelet).TrimEnd('/');
        var options = new NodeAgentOptions
        {
            Kubelet =
                kubeletFolder.Length == 0
                    ? null
                    : new KubeletOptions
                    {
                        Driver = DraNames.Driver,
                        KubeletDirectory = kubeletFolder,
                        CdiDirectory = parsed.GetValue(cdi)!,
                        StateDirectory = parsed.GetValue(state)!,
                        SocketRoot = parsed.GetValue(root)!,
                        PodUid = Environment.GetEnvironmentVariable("POD_UID"),
                    },
            NodeName = parsed.GetValue(node)!,
            Installation = parsed.GetValue(installation) is { Length: > 0 } whose ? new Installation(whose, parsed.GetValue(ns)!) : null,
        };
        return ProgramHost.RunAsync(
            new ProgramHostOptions
            {
                Name = "pcioperator-agent",
                Instance = options.NodeName,
                Kubeconfig = parsed.GetValue(kubeconfig),
                HealthAddress = TextOf(parsed, health),
                MetricsAddress = TextOf(parsed, shown),
                TraceSource = ClaimTrace.SourceName,
                LogLevel = parsed.GetValue(level),
                LogFormat = parsed.GetValue(format),
                EntityTypes = PciOperatorJsonContext.Default,
            },
            async (context, ct) =>
            {
                var files = new LinuxFileSystem(parsed.GetValue(root)!);
                var host = new PassthroughHost(
                    files,
                    parsed.GetValue(state)!,
                    logger: context.Log,
                    options: new PassthroughHostOptions
                    {
                        NodeName = options.NodeName,
                        DeniedDrivers =
                        [
                            .. DeniedDrivers.BuiltIn,
                            .. TextOf(parsed, denied).Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries),
                        ],
                    }
                );
                await using var agent = new NodeAgent(
                    options,
                    context.Client,
                    host,
                    files,
                    parsed.GetValue(state)!,
                    new LinuxUevents(),
                    TimeProvider.System,
                    context.Log,
                    context.Metrics,
                    context.Events
                );
                context.Health?.AddReadinessCheck("agent", agent.NotReady);
                context.Health?.AddLivenessCheck("agent", agent.WhyStuck);
                await agent.RunAsync(ct);
            }
        );
    }
);
return await command.Parse(args).InvokeAsync();

// To System.CommandLine "--option=" is an option without an argument, which has its default; here it says: nothing.
static string TextOf(ParseResult parsed, Option<string> option) =>
    parsed.GetResult(option) is { Implicit: false, Tokens.Count: 0 } ? "" : parsed.GetValue(option)!;
