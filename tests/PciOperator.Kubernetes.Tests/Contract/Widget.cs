using System.Text.Json.Serialization;
using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes.Tests.Contract;

/// <summary>A custom resource with everything that the contract tests need.</summary>
[KubernetesEntity(Group = "contract.pcioperator.test", ApiVersion = "v1", Kind = "Widget", PluralName = "widgets")]
public sealed record Widget : IKubernetesObject<V1ObjectMeta>
{
    public string? ApiVersion { get; set; }

    public string? Kind { get; set; }

    public V1ObjectMeta Metadata { get; set; } = new();

    public WidgetSpec Spec { get; set; } = new();

    public WidgetStatus? Status { get; set; }

    public static Widget Named(string name, string ns, int? size = null, string? color = null, params (string, string)[] labels) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                NamespaceProperty = ns,
                Labels = labels.Length == 0 ? null : labels.ToDictionary(l => l.Item1, l => l.Item2),
            },
            Spec = new WidgetSpec { Size = size, Color = color },
        };

    public const string CustomResourceDefinition = """
        {
          "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
          "metadata": {"name": "widgets.contract.pcioperator.test"},
          "spec": {
            "group": "contract.pcioperator.test", "scope": "Namespaced",
            "names": {"kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget", "shortNames": ["wi"]},
            "versions": [{
              "name": "v1", "served": true, "storage": true,
              "subresources": {"status": {}},
              "selectableFields": [{"jsonPath": ".spec.color"}],
              "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"}],
              "schema": {"openAPIV3Schema": {
                "type": "object",
                "properties": {
                  "spec": {"type": "object", "properties": {
                    "size": {"type": "integer", "minimum": 0, "maximum": 100},
                    "color": {"type": "string", "enum": ["red", "green", "blue"]},
                    "shape": {"type": "string", "default": "round"},
                    "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                    "notes": {"type": "array", "items": {"type": "string"}},
                    "parts": {
                      "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                      "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string"}, "count": {"type": "integer"}
                      }}
                    }
                  }},
                  "status": {"type": "object", "properties": {
                    "phase": {"type": "string"},
                    "conditions": {
                      "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                      "items": {"type": "object", "required": ["type", "status"], "properties": {
                        "type": {"type": "string"}, "status": {"type": "string"}, "reason": {"type": "string"}, "message": {"type": "string"},
                        "observedGeneration": {"type": "integer"}, "lastTransitionTime": {"type": "string", "format": "date-time"}
                      }}
                    }
                  }}
                }
              }}
            }]
          }
        }
        """;
}

public sealed record WidgetSpec
{
    public int? Size { get; set; }

    public string? Color { get; set; }

    public string? Shape { get; set; }

    public IReadOnlyDictionary<string, string>? Tags { get; set; }

    public IReadOnlyList<string>? Notes { get; set; }

    public IReadOnlyList<WidgetPart>? Parts { get; set; }
}

public sealed record WidgetPart
{
    public string Name { get; set; } = "";

    public int? Count { get; set; }
}

public sealed record WidgetStatus
{
    public string? Phase { get; set; }

    public IReadOnlyList<V1Condition>? Conditions { get; set; }
}

/// <summary>A kind that no server has.</summary>
[KubernetesEntity(Group = "contract.pcioperator.test", ApiVersion = "v1", Kind = "Gadget", PluralName = "gadgets")]
public sealed record Gadget : IKubernetesObject<V1ObjectMeta>
{
    public string? ApiVersion { get; set; }

    public string? Kind { get; set; }

    public V1ObjectMeta Metadata { get; set; } = new();
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true
)]
[JsonSerializable(typeof(Widget))]
[JsonSerializable(typeof(Gadget))]
public sealed partial class WidgetJsonContext : JsonSerializerContext;
