//! The features of both configurations: their names, types and documentation.

use half::f16;
use serde_json::{Value, json};

use crate::label::Nsfw;
use crate::proto::{Feature, Features};

/// The two configurations of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Config {
    /// Images and metadata; the default.
    Images,
    /// Embeddings and metadata.
    Embeddings,
}

impl Config {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Images, Self::Embeddings];

    /// Its name in the catalogue.
    pub fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Embeddings => "embeddings",
        }
    }
}

/// What a loader yields: exactly the features of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// HTML alt-text attribute.
    pub caption: String,
    /// The encoded picture; the images configuration only.
    pub image: Option<Vec<u8>>,
    /// Image and text embedding of 512 values each; the embeddings configuration only.
    pub embeddings: Option<(Vec<f16>, Vec<f16>)>,
    /// Creative Commons licence, `?` where none is known.
    pub license: String,
    /// The tag.
    pub nsfw: Nsfw,
    /// In pixels.
    pub original_height: i32,
    /// In pixels.
    pub original_width: i32,
    /// Cosine similarity; TFDS declares it float64 and stores it as float32.
    pub similarity: f64,
    /// Image URL.
    pub url: String,
}

impl Example {
    /// The features as TFDS stores them.
    pub fn to_features(&self) -> Features {
        let text = |text: &str| Feature::Bytes(vec![text.as_bytes().to_vec()]);
        let mut features = Features::from([
            ("caption".to_owned(), text(&self.caption)),
            ("license".to_owned(), text(&self.license)),
            ("nsfw".to_owned(), Feature::Ints(vec![self.nsfw.class()])),
            ("original_height".to_owned(), Feature::Ints(vec![self.original_height.into()])),
            ("original_width".to_owned(), Feature::Ints(vec![self.original_width.into()])),
            ("similarity".to_owned(), Feature::Floats(vec![self.similarity as f32])),
            ("url".to_owned(), text(&self.url)),
        ]);
        if let Some(image) = &self.image {
            features.insert("image".into(), Feature::Bytes(vec![image.clone()]));
        }
        if let Some((image, text)) = &self.embeddings {
            let widened = |row: &[f16]| Feature::Floats(row.iter().map(|value| value.to_f32()).collect());
            features.insert("image_embedding".into(), widened(image));
            features.insert("text_embedding".into(), widened(text));
        }
        features
    }

    /// Reads stored features; the error names the feature that is missing or of another type.
    pub fn from_features(mut features: Features) -> Result<Self, String> {
        let image = features.remove("image").map(|image| one_bytes("image", Some(image))).transpose()?;
        let embeddings = match (features.remove("image_embedding"), features.remove("text_embedding")) {
            (None, None) => None,
            (image, text) => Some((narrowed("image_embedding", image)?, narrowed("text_embedding", text)?)),
        };
        let mut text = |name: &'static str| {
            let bytes = one_bytes(name, features.remove(name))?;
            String::from_utf8(bytes).map_err(|_| format!("feature {name:?} is not UTF-8"))
        };
        let (caption, license, url) = (text("caption")?, text("license")?, text("url")?);
        let int = |name: &'static str| match features.get(name) {
            Some(Feature::Ints(values)) if values.len() == 1 => Ok(values[0]),
            other => Err(wrong(name, other)),
        };
        let size = |name| int(name).and_then(|value| value.try_into().map_err(|_| format!("{name} is {value}")));
        let class = int("nsfw")?;
        let nsfw = usize::try_from(class).ok().and_then(|class| Nsfw::ALL.get(class).copied());
        let similarity = match features.get("similarity") {
            Some(Feature::Floats(values)) if values.len() == 1 => f64::from(values[0]),
            other => return Err(wrong("similarity", other)),
        };
        Ok(Self {
            caption,
            image,
            embeddings,
            license,
            nsfw: nsfw.ok_or_else(|| format!("nsfw class {class}"))?,
            original_height: size("original_height")?,
            original_width: size("original_width")?,
            similarity,
            url,
        })
    }
}

fn wrong(name: &str, feature: Option<&Feature>) -> String {
    match feature {
        None => format!("no feature {name:?}"),
        Some(_) => format!("feature {name:?} is of another type"),
    }
}

fn one_bytes(name: &str, feature: Option<Feature>) -> Result<Vec<u8>, String> {
    match feature {
        Some(Feature::Bytes(mut values)) if values.len() == 1 => Ok(values.remove(0)),
        other => Err(wrong(name, other.as_ref())),
    }
}

fn narrowed(name: &str, feature: Option<Feature>) -> Result<Vec<f16>, String> {
    match feature {
        Some(Feature::Floats(values)) => Ok(values.into_iter().map(f16::from_f32).collect()),
        other => Err(wrong(name, other.as_ref())),
    }
}

/// `features.json`: the types and documentation of the features. Keys are in sorted order.
pub(super) fn features_json(config: Config) -> Value {
    let class = |name: &str| format!("tensorflow_datasets.core.features.{name}");
    let text = |description: &str| json!({"description": description, "pythonClassName": class("text_feature.Text"), "text": {}});
    let scalar = |description: &str, dtype: &str| {
        json!({
            "description": description,
            "pythonClassName": class("scalar.Scalar"),
            "tensor": {"dtype": dtype, "encoding": "none", "shape": {}}
        })
    };
    let embedding = |description: &str| {
        json!({
            "description": description,
            "pythonClassName": class("tensor_feature.Tensor"),
            "tensor": {"dtype": "float16", "encoding": "none", "shape": {"dimensions": ["512"]}}
        })
    };
    let similarity = "cosine similarity score between the text and image embedding. Missing values default to -1.0";
    let nsfw = "NSFW tag (detected with CLIP). Incohesive and missing tags are replaced with UNTAGGED";
    let mut similarity = scalar(similarity, "float64");
    similarity["valueRange"] = "[0.0, 1.0]".into();
    let image = json!({
        "description": "image",
        "image": {"dtype": "uint8", "shape": {"dimensions": ["-1", "-1", "3"]}},
        "pythonClassName": class("image_feature.Image")
    });
    let mut features = vec![("caption", text("HTML alt-text attribute"))];
    match config {
        Config::Images => features.push(("image", image)),
        Config::Embeddings => features.push(("image_embedding", embedding("CLIP image embedding"))),
    }
    features.push(("license", text("type of Creative Commons license (if applicable)")));
    features.push((
        "nsfw",
        json!({
            "classLabel": {"numClasses": "4"},
            "description": nsfw,
            "pythonClassName": class("class_label_feature.ClassLabel")
        }),
    ));
    features.push(("original_height", scalar("original height of the image", "int32")));
    features.push(("original_width", scalar("original width of the image", "int32")));
    features.push(("similarity", similarity));
    if config == Config::Embeddings {
        features.push(("text_embedding", embedding("CLIP text embedding")));
    }
    features.push(("url", text("image URL")));
    let features: serde_json::Map<String, Value> =
        features.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    json!({
        "featuresDict": {"features": features},
        "pythonClassName": class("features_dict.FeaturesDict")
    })
}
