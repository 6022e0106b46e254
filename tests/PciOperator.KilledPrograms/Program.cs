using System.CommandLine;
using PciOperator.KilledPrograms;

var kubeconfig = new Option<string>("--kubeconfig") { Required = true };
var node = new Option<string>("--node-name") { Required = true };
var host = new Option<string>("--host") { Required = true };
var controller = new Command("controller", "The controller, to be killed by a test.") { kubeconfig };
controller.SetAction((parsed, ct) => Programs.RunControllerAsync(parsed.GetValue(kubeconfig)!, ct));
var agent = new Command("agent", "The agent on a simulated host that a file keeps, to be killed by a test.") { kubeconfig, node, host };
agent.SetAction((parsed, ct) => Programs.RunAgentAsync(parsed.GetValue(kubeconfig)!, parsed.GetValue(node)!, parsed.GetValue(host)!, ct));

return await new RootCommand("The controller, and the agent on a simulated host, for tests that kill them.") { controller, agent }
    .Parse(args)
    .InvokeAsync();
