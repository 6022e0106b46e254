using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;

namespace PciOperator.Tests.Docs;

/// <summary>
/// What Flux says of an object with the healthCheckExprs of config/gitops/flux/devices.yaml. An API server evaluates them, with its own CEL: a
/// policy refuses to create an object that has another in its spec, and its message says what each expression is of that.
/// </summary>
internal sealed partial class FluxHealth
{
    public const string Devices = "config/gitops/flux/devices.yaml";

    private readonly EntityClient _client;

    private FluxHealth(EntityClient client) => _client = client;

    /// <summary>The checks by kind.</summary>
    public static IReadOnlyDictionary<string, JsonNode> Checks { get; } =
        Manifests.Read(File.ReadAllText(Path.Combine(Kubectl.Repository, Devices))).Single(o => o["spec"]!["healthCheckExprs"] is not null)[
            "spec"
        ]!["healthCheckExprs"]!
            .AsArray()
            .ToDictionary(c => c!["kind"]!.ToString(), c => c!);

    /// <summary>Puts the policies on a server.</summary>
    public static async Task<FluxHealth> OnAsync(EntityClient client)
    {
        await Manifests.InstallCrdAsync(
            client,
            """
            apiVersion: apiextensions.k8s.io/v1
            kind: CustomResourceDefinition
            metadata: {name: subjects.test.example.com}
            spec:
              group: test.example.com
              scope: Cluster
              names: {plural: subjects, singular: subject, kind: Subject, listKind: SubjectList}
              versions:
                - name: v1
                  served: true
                  storage: true
                  schema:
                    openAPIV3Schema:
                      type: object
                      properties:
                        spec: {type: object, x-kubernetes-preserve-unknown-fields: true}
            """
        );
        foreach ((string kind, JsonNode check) in Checks)
        {
            string says = string.Join(
                " + ' ' + ",
                Words.Select(w => check[w] is { } e ? $"(({Root().Replace(e.ToString(), "object.spec.of.status")}) ? '{w}' : '-')" : "'-'")
            );
            string name = kind.ToLowerInvariant();
            var policy = new JsonObject
            {
                ["apiVersion"] = "admissionregistration.k8s.io/v1",
                ["kind"] = "ValidatingAdmissionPolicy",
                ["metadata"] = new JsonObject { ["name"] = name },
                ["spec"] = new JsonObject
                {
                    ["matchConstraints"] = JsonNode.Parse(
                        """{"resourceRules":[{"apiGroups":["test.example.com"],"apiVersions":["v1"],"operations":["CREATE"],"resources":["subjects"]}]}"""
                    ),
                    ["matchConditions"] = new JsonArray(
                        new JsonObject { ["name"] = "kind", ["expression"] = $"object.spec.of.kind == '{kind}'" }
                    ),
                    ["validations"] = new JsonArray(
                        new JsonObject
                        {
                            ["expression"] = "false",
                            ["message"] = "verdict: error",
                            ["messageExpression"] = $"'verdict: ' + {says}",
                        }
                    ),
                },
            };
            await Manifests.ApplyAsync(client, policy.ToJsonString());
            await Manifests.ApplyAsync(
                client,
                $$"""
                apiVersion: admissionregistration.k8s.io/v1
                kind: ValidatingAdmissionPolicyBinding
                metadata: {name: {{name}}}
                spec: {policyName: {{name}}, validationActions: [Deny]}
                """
            );
        }

        return new FluxHealth(client);
    }

    /// <summary>Flux' words are kstatus'; with an expression that can't be evaluated it goes on waiting.</summary>
    public async Task<string> OfAsync(JsonNode o)
    {
        if (Kstatus.IsBehind(o))
            return "InProgress";
        string verdict = await VerdictAsync(o);
        return verdict.Contains("error", StringComparison.Ordinal) ? "Unknown"
            : verdict.Contains("inProgress", StringComparison.Ordinal) ? "InProgress"
            : verdict.Contains("failed", StringComparison.Ordinal) ? "Failed"
            : verdict.Contains("current", StringComparison.Ordinal) ? "Current"
            : "InProgress";
    }

    private static readonly string[] Words = ["inProgress", "failed", "current"];

    private async Task<string> VerdictAsync(JsonNode o)
    {
        var subject = new JsonObject
        {
            ["apiVersion"] = "test.example.com/v1",
            ["kind"] = "Subject",
            ["metadata"] = new JsonObject { ["name"] = "subject" },
            ["spec"] = new JsonObject { ["of"] = o.DeepClone() },
        };
        byte[] body = Encoding.UTF8.GetBytes(subject.ToJsonString());
        // A policy holds a moment after it was made.
        for (int i = 0; i < 3000; i++)
        {
            try
            {
                (await _client.SendRawAsync(HttpMethod.Post, "/apis/test.example.com/v1/subjects?dryRun=All", body)).Dispose();
                await Task.Delay(20);
            }
            catch (ApiException refused) when (Verdict().Match(refused.Message) is { Success: true } verdict)
            {
                return verdict.Groups[1].Value;
            }
        }

        throw new InvalidOperationException($"No policy has refused a {o["kind"]}.");
    }

    [GeneratedRegex(@"(?<![\w.'])status\b")]
    private static partial Regex Root();

    [GeneratedRegex("verdict: ([a-zA-Z -]+)")]
    private static partial Regex Verdict();
}
