using System.CommandLine;
using PciOperator.Sandbox;

var port = new Option<int>("--port") { Description = "The API server's port on 127.0.0.1; 0 for a free one." };
var nodes = new Option<int>("--nodes") { Description = "How many simulated nodes.", DefaultValueFactory = _ => 3 };
var samples = new Option<string?>("--samples") { Description = "A folder of YAML to apply instead of the samples that are built in." };

var demo = new Command("demo", "Shows claims taking devices of simulated nodes and giving them back, then ends.") { nodes, samples };
demo.SetAction((parsed, ct) => Demo.RunAsync(parsed.GetValue(nodes), parsed.GetValue(samples), ct));

var sandbox = new Command("sandbox", "Keeps a simulated cluster running for kubectl, until Ctrl-C.") { port, nodes, samples };
sandbox.SetAction((parsed, ct) => SandboxSession.RunAsync(parsed.GetValue(port), parsed.GetValue(nodes), parsed.GetValue(samples), ct));

return await new RootCommand("PciOperator without a cluster: an API server and hosts in one process.") { demo, sandbox }
    .Parse(args)
    .InvokeAsync();
