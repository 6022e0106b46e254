using System.CommandLine;
using PciOperator.KilledPrograms;

var kubeconfig = new Option<string>("--kubeconfig") { Required = true };
var node = new Option<string>("--node-name") { Required = true };
var host = new Option<string>("--host") { Required = true };
var sockets = new Option<string?>("--socket-root")
{
    Description = "Where the host's / is for the kubelet's sockets; without it there is no kubelet.",
};
var kubelet = new Option<string>("--kubelet-dir")
{
    Description = "The kubelet's folder, on the host.",
    DefaultValueFactory = _ => "/var/lib/kubelet",
};
var controller = new Command("controller", "The controller, to be killed by a test.") { kubeconfig };
controller.SetAction((parsed, ct) => Programs.RunControllerAsync(parsed.GetValue(kubeconfig)!, ct));
var agent = new Command("agent", "The agent on a simulated host that a file keeps, to be killed by a test.")
{
    kubeconfig,
    node,
    host,
    sockets,
    kubelet,
};
agent.SetAction(
    (parsed, ct) =>
        Programs.RunAgentAsync(
            parsed.GetValue(kubeconfig)!,
            parsed.GetValue(node)!,
            parsed.GetValue(host)!,
            parsed.GetValue(sockets) is { } root ? (root, parsed.GetValue(kubelet)!) : null,
            ct
        )
);

return await new RootCommand("The controller, and the agent on a simulated host, for tests that kill them.") { controller, agent }
    .Parse(args)
    .InvokeAsync();
