using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Schemas;

/// <summary>A field error as Kubernetes words it (apimachinery's field.Error).</summary>
/// <param name="Field">The path; <c>&lt;nil&gt;</c> for the whole object.</param>
/// <param name="Reason">A metav1.CauseType, <c>FieldValueInvalid</c> and the like.</param>
/// <param name="Message">The error's body: <c>Invalid value: 17: should be …</c>.</param>
internal sealed record Violation(string Field, string Reason, string Message)
{
    private static string Named(string path) => path.Length == 0 ? "<nil>" : path;

    private static string Quoted(JsonNode? value) => value is null ? "null" : Json.Text(value);

    public static Violation Invalid(string path, JsonNode? value, string detail) =>
        new(Named(path), "FieldValueInvalid", $"Invalid value: {Quoted(value)}{Suffix(detail)}");

    public static Violation TypeInvalid(string path, string value, string detail) =>
        new(Named(path), "FieldValueTypeInvalid", $"Invalid value: {Json.Text(value)}{Suffix(detail)}");

    public static Violation Required(string path, string detail = "") =>
        new(Named(path), "FieldValueRequired", $"Required value{Suffix(detail)}");

    public static Violation Forbidden(string path, string detail) => new(Named(path), "FieldValueForbidden", $"Forbidden: {detail}");

    public static Violation Duplicate(string path, JsonNode? value) =>
        new(Named(path), "FieldValueDuplicate", $"Duplicate value: {Quoted(value)}");

    public static Violation NotSupported(string path, JsonNode? value, IEnumerable<JsonNode?> supported) =>
        new(
            Named(path),
            "FieldValueNotSupported",
            $"Unsupported value: {Quoted(value)}: supported values: {string.Join(", ", supported.Select(Quoted))}"
        );

    public static Violation TooLong(string path, string detail) => new(Named(path), "FieldValueTooLong", $"Too long{Suffix(detail)}");

    public static Violation TooMany(string path, int actual, long most) =>
        new(Named(path), "FieldValueTooMany", $"Too many: {actual}: must have at most {most} item{(most == 1 ? "" : "s")}");

    private static string Suffix(string detail) => detail.Length == 0 ? "" : ": " + detail;
}
