using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>authorization.k8s.io: whoever is let in here may do everything.</summary>
internal static class AccessReviews
{
    public const string Group = "authorization.k8s.io";
    public const string Version = "v1";
    public const string Local = "localsubjectaccessreviews";

    public static readonly (string Plural, string Kind)[] Kinds =
    [
        (Local, "LocalSubjectAccessReview"),
        ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        ("subjectaccessreviews", "SubjectAccessReview"),
    ];

    public static JsonObject Answer(string plural, JsonObject review)
    {
        review["status"] =
            plural == "selfsubjectrulesreviews"
                ? new JsonObject
                {
                    ["resourceRules"] = new JsonArray(
                        new JsonObject
                        {
                            ["verbs"] = new JsonArray("*"),
                            ["apiGroups"] = new JsonArray("*"),
                            ["resources"] = new JsonArray("*"),
                        }
                    ),
                    ["nonResourceRules"] = new JsonArray(
                        new JsonObject { ["verbs"] = new JsonArray("*"), ["nonResourceURLs"] = new JsonArray("*") }
                    ),
                    ["incomplete"] = false,
                }
                : new JsonObject { ["allowed"] = true };
        return review;
    }
}
