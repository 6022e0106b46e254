using System.CommandLine;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Kubernetes;

var kubeconfig = new Option<string?>("--kubeconfig")
{
    Description = "A kubeconfig file; without it $KUBECONFIG, ~/.kube/config or the pod's service account.",
};
var ns = new Option<string>("--namespace")
{
    Description = "The namespace of the controller, and of its lease.",
    DefaultValueFactory = _ => Environment.GetEnvironmentVariable("POD_NAMESPACE") ?? new ControllerOptions().Namespace,
};
var agents = new Option<string>("--agent-namespace")
{
    Description = "The namespace of the agents.",
    DefaultValueFactory = _ => new ControllerOptions().AgentNamespace,
};
var lease = new Option<string>("--lease-name")
{
    Description = "The lease's name. Namespace and lease are what the PciNodes are marked with as this installation's.",
    DefaultValueFactory = _ => new ControllerOptions().LeaseName,
};
var selector = new Option<string>("--agent-selector")
{
    Description = "Labels of the agents' pods.",
    DefaultValueFactory = _ => new ControllerOptions().AgentSelector,
};
var elect = new Option<bool>("--leader-elect") { Description = "Work only while holding the Lease.", DefaultValueFactory = _ => true };
var refusal = new Option<TimeSpan>("--refusal-period")
{
    Description = "How long a device that an agent refused to give to a claim is kept out for that claim.",
    DefaultValueFactory = _ => new ControllerOptions().RefusalPeriod,
};
var delivery = new Option<Delivery?>("--default-delivery")
{
    Description =
        "How claims that don't say so are delivered: DRA, DevicePlugin or None. Not given: by DRA where the cluster serves resource.k8s.io/v1, else by the device plugin.",
};
var dra = new Option<bool>("--dra") { Description = "Whether claims may be delivered by DRA.", DefaultValueFactory = _ => true };
var devicePlugin = new Option<bool>("--device-plugin")
{
    Description = "Whether claims may be delivered by the device plugin.",
    DefaultValueFactory = _ => true,
};
var health = new Option<string>("--health-address")
{
    Arity = ArgumentArity.ZeroOrOne,
    Description = "Where /healthz, /readyz and /metrics are served; empty for nowhere.",
    DefaultValueFactory = _ => "0.0.0.0:8080",
};
var level = new Option<LogLevel>("--log-level")
{
    Description = "trace, debug, information, warning, error or critical.",
    DefaultValueFactory = _ => LogLevel.Information,
};
var format = new Option<LogFormat>("--log-format") { Description = "json or text.", DefaultValueFactory = _ => LogFormat.Json };

var command = new RootCommand("Places PassthroughClaims on nodes and keeps the PciNodes. " + Traces.Help)
{
    kubeconfig,
    ns,
    agents,
    selector,
    lease,
    elect,
    refusal,
    delivery,
    dra,
    devicePlugin,
    health,
    level,
    format,
};
command.SetAction(
    (parsed, _) =>
    {
        var options = new ControllerOptions
        {
            Namespace = parsed.GetValue(ns)!,
            AgentNamespace = parsed.GetValue(agents)!,
            LeaseName = parsed.GetValue(lease)!,
            AgentSelector = parsed.GetValue(selector)!,
            LeaderElect = parsed.GetValue(elect),
            RefusalPeriod = parsed.GetValue(refusal),
            DefaultDelivery = parsed.GetValue(delivery),
            Dra = parsed.GetValue(dra),
            DevicePlugin = parsed.GetValue(devicePlugin),
            Identity = $"{Environment.GetEnvironmentVariable("POD_NAME") ?? Environment.MachineName}_{Guid.NewGuid():N}",
        };
        return ProgramHost.RunAsync(
            new ProgramHostOptions
            {
                Name = "pcioperator-controller",
                Instance = Environment.GetEnvironmentVariable("POD_NAME") ?? Environment.MachineName,
                Kubeconfig = parsed.GetValue(kubeconfig),
                HealthAddress = TextOf(parsed, health),
                TraceSource = ClaimTrace.SourceName,
                LogLevel = parsed.GetValue(level),
                LogFormat = parsed.GetValue(format),
                EntityTypes = ResourceJsonContext.WithOwnKinds,
            },
            async (context, ct) =>
            {
                var controller = new PciController(
                    context.Client,
                    options,
                    TimeProvider.System,
                    context.Log,
                    context.Metrics,
                    context.Events
                );
                context.Health?.AddReadinessCheck("controller", controller.NotReady);
                context.Health?.AddLivenessCheck("controller", controller.WhyStuck);
                await controller.RunAsync(ct);
            }
        );
    }
);
var timeout = new Option<int>("--timeout") { Description = "How many seconds to wait at most.", DefaultValueFactory = _ => 600 };
var deleteDefinitions = new Option<bool>("--delete-crds")
{
    Description = "Delete the custom resources' definitions after it, and all that is stored of them.",
};
var uninstall = new Command(
    "uninstall",
    "Waits until no device is held, so that the programs can be taken away, and says for what it waits."
)
{
    kubeconfig,
    timeout,
    deleteDefinitions,
    level,
};
uninstall.SetAction(
    async (parsed, _) =>
    {
        bool done = false;
        int code = await ProgramHost.RunAsync(
            new ProgramHostOptions
            {
                Name = "pcioperator-uninstall",
                Instance = Environment.MachineName,
                Kubeconfig = parsed.GetValue(kubeconfig),
                LogLevel = parsed.GetValue(level),
                LogFormat = LogFormat.Text,
                EntityTypes = ResourceJsonContext.WithOwnKinds,
            },
            async (context, ct) =>
            {
                var uninstallation = new Uninstallation(context.Client, TimeProvider.System, context.Log);
                await uninstallation.WaitAsync(parsed.GetValue(deleteDefinitions), TimeSpan.FromSeconds(parsed.GetValue(timeout)), ct);
                done = true;
            }
        );
        return done ? 0 : Math.Max(code, 1);
    }
);
command.Subcommands.Add(uninstall);
return await command.Parse(args).InvokeAsync();

// To System.CommandLine "--option=" is an option without an argument, which has its default; here it says: nothing.
static string TextOf(ParseResult parsed, Option<string> option) =>
    parsed.GetResult(option) is { Implicit: false, Tokens.Count: 0 } ? "" : parsed.GetValue(option)!;
